// Runs before the first paint, so that a dark page never flashes white. The same choice as src/app/preferences.tsx makes.
(function () {
  var theme = null;
  try {
    theme = localStorage.getItem("sskai.theme");
  } catch {
    // Storage may be forbidden: the system's theme then.
  }
  if (theme !== "light" && theme !== "dark") {
    theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  document.documentElement.dataset.theme = theme;
})();
