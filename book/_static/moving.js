/* The moving clip can be stopped: its button swaps the animation for the still, and back. */
document.addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll(".vad-moving")) {
    const image = figure.querySelector("img");
    const source = figure.querySelector("source");
    const button = figure.querySelector(".vad-pause");
    const moving = image.getAttribute("src");
    const still = image.dataset.still;
    let stopped = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

    const show = () => {
      // A source that matches would win over the image: who asks for motion gets it.
      source.media = "print";
      image.src = stopped ? still : moving;
      button.textContent = stopped ? "Play the clip" : "Stop the clip";
    };
    button.addEventListener("click", () => {
      stopped = !stopped;
      show();
    });
    show();
    button.hidden = false;
  }
});
