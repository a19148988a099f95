// Before anything is painted: the theme that was chosen here, if one was. Without a choice the system's counts (page.css).
const chosen = localStorage.getItem("theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
