/* What the theme and the bibliography leave out for those who do not see the page. */
document.addEventListener("DOMContentLoaded", () => {
  // A bare arrow opens and closes a folder of the navigation: name it after the folder's page.
  for (const arrow of document.querySelectorAll("nav li.has-children > details > summary")) {
    const page = arrow.closest("li").querySelector("a");
    arrow.setAttribute("aria-label", `Pages under ${page.textContent.trim()}`);
  }
  // Entries of the bibliography have a role of their own, which a list does not allow inside.
  for (const list of document.querySelectorAll(".citation-list[role=list]")) {
    list.removeAttribute("role");
  }
});
