// Swagger UI on the document that the page names, dark where the reader's system is.
const main = document.getElementById("swagger-ui");
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();
SwaggerUIBundle({ url: main.dataset.document, domNode: main, deepLinking: true });
