// Requests to the server. Every request carries the token of this tab's login; there are no cookies.

const ROOT = new URL("../../", document.baseURI);
const TOKEN = "ct2pet.token"; // in sessionStorage: each tab has its own login
const UNAUTHORIZED = 401;

let signIn = async () => {}; // shows the login form and returns once the user has signed in

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || `The server answered with status ${status}.`);
    this.status = status;
    this.code = problem.code || "";
    this.params = problem.params || {};
  }
}

export function onSignIn(show) {
  signIn = show;
}

export function isSignedIn() {
  return sessionStorage.getItem(TOKEN) !== null;
}

export function signOut() {
  sessionStorage.removeItem(TOKEN);
}

export async function logIn(username, password) {
  const body = new URLSearchParams({ grant_type: "password", username, password });
  const response = await fetch(new URL("auth/token", ROOT), { method: "POST", body });
  if (!response.ok) throw await errorOf(response);
  sessionStorage.setItem(TOKEN, (await response.json()).access_token);
}

/** Return the response to a request; ask for a login where the server requires one. */
export async function request(path, { method = "GET", query = {}, body, headers = {}, signal } = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const sent = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
    const response = await fetch(url, { method, body, headers: sent, signal });
    if (response.ok) return response;
    if (response.status !== UNAUTHORIZED) throw await errorOf(response);
    if (sessionStorage.getItem(TOKEN) === token) {
      signOut();
      await signIn();
    }
  }
}

export async function getJson(path, query, signal) {
  return (await request(path, { query, signal })).json();
}

export async function postJson(path, value, query, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", query, body: JSON.stringify(value), headers, signal })).json();
}

/** Return the response to an inference with these parameters; `output` is `image` for the file alone. */
export async function infer(model, image, params, { output, signal } = {}) {
  const body = new FormData();
  body.set("params", JSON.stringify(params));
  return request(`infer/${encodeURIComponent(model)}`, { method: "POST", query: { image, output }, body, signal });
}

/** Return the metadata and the NRRD file of a synthesized slab. */
export async function inferSlab(model, image, params, signal) {
  const parts = await (await infer(model, image, params, { signal })).formData();
  return { metadata: JSON.parse(parts.get("params")), file: await parts.get("image").arrayBuffer() };
}

async function errorOf(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // a proxy's error page
  }
  return new ApiError(response.status, problem);
}
