// The description of the API. On a server with accounts, a browser cannot open /docs by its address: it sends no token.

import { request } from "./api.js";

/** Show the endpoints, with what they take and return. */
export async function showReference(element) {
  if (element.childElementCount) return;
  const page = new DOMParser().parseFromString(await (await request("docs")).text(), "text/html");
  element.replaceChildren(...page.querySelectorAll("body > table, body > h2, body > h2 ~ p"));
}
