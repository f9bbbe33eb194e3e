// The page: which part of it is shown, signing in, themes, and errors.

import { isSignedIn, logIn, onSignIn, signOut } from "./api.js";
import { CtPage } from "./ct.js";
import { ImageList } from "./list.js";
import { showReference } from "./reference.js";

const THEME = "ct2pet.theme";
const byId = (id) => document.getElementById(id);

function showError(error) {
  if (error?.name === "AbortError") return;
  const message = byId("message");
  message.textContent = error instanceof TypeError && error.message === "Failed to fetch"
    ? "The server cannot be reached. Is it running?"
    : error.message;
  message.hidden = false;
}

function askForLogin() {
  const dialog = byId("login");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
}

async function submitLogin(event) {
  event.preventDefault();
  byId("login-error").textContent = "";
  try {
    await logIn(byId("user").value, byId("password").value);
    byId("password").value = "";
    byId("sign-out").hidden = false;
    byId("login").close();
  } catch (error) {
    byId("login-error").textContent = error.message;
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light theme" : "Dark theme";
}

async function route(list, ct) {
  const image = /^#\/ct\/(.+)$/.exec(location.hash)?.[1], isApi = location.hash === "#/api";
  byId("message").hidden = true;
  const show = () => {
    byId("list").hidden = byId("api").hidden = image !== undefined || isApi;
    byId("viewer").hidden = image === undefined;
    byId("reference").hidden = !isApi;
    byId("home").hidden = image === undefined && !isApi;
  };
  try {
    if (image === undefined) {
      show();
      ct.close();
      byId("title").textContent = isApi ? "API" : "CTs";
      document.title = "ct2pet viewer";
      await (isApi ? showReference(byId("reference")) : list.showOnce());
    } else {
      await ct.open(decodeURIComponent(image), show);
    }
  } catch (error) {
    show();
    showError(error);
  }
}

const list = new ImageList(), ct = new CtPage(showError);
onSignIn(askForLogin);
setTheme(localStorage.getItem(THEME) ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
byId("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  localStorage.setItem(THEME, document.documentElement.dataset.theme);
});
byId("login").addEventListener("cancel", (event) => event.preventDefault());
byId("login-form").addEventListener("submit", submitLogin);
byId("sign-out").hidden = !isSignedIn();
byId("sign-out").addEventListener("click", () => { signOut(); location.hash = "#/"; location.reload(); });
addEventListener("hashchange", () => route(list, ct));
addEventListener("unhandledrejection", (event) => showError(event.reason));
route(list, ct);
(globalThis.requestIdleCallback ?? setTimeout)(() => ct.start().catch(showError));
