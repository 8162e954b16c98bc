/* The theme's navigation opens and closes its folders with a bare arrow: name it for those who do
   not see it, after the page that it belongs to. */
document.addEventListener("DOMContentLoaded", () => {
  for (const arrow of document.querySelectorAll("nav li.has-children > details > summary")) {
    const page = arrow.closest("li").querySelector("a");
    arrow.setAttribute("aria-label", `Pages under ${page.textContent.trim()}`);
  }
});
