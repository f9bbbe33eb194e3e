// The list of CTs: searched and cut into parts in the server; thumbnails are fetched when they come into view.

import { getJson, request } from "./api.js";
import { date, status } from "./words.js";

const PART = 100;
const TYPING_MS = 200;
const PICTURES_AT_ONCE = 3; // fewer than a browser's connections to one server

export class ImageList {
  constructor() {
    this.rows = document.getElementById("images");
    this.count = document.getElementById("count");
    this.more = document.getElementById("more");
    this.search = document.getElementById("search");
    this.pictures = new IntersectionObserver((seen) => this.fetchSeen(seen), { rootMargin: "300px" });
    this.fetching = 0;
    this.wanted = new Set(); // pictures on screen that have not been fetched, in the order of the rows
    this.end = new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting)) this.append();
    }, { rootMargin: "600px" });
    this.more.addEventListener("click", () => this.append());
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.show(), TYPING_MS);
    });
    document.getElementById("search-form").addEventListener("submit", (event) => event.preventDefault());
  }

  /** Show the list where it is empty; returning from a CT, it is where it was. */
  async showOnce() {
    if (!this.rows.children.length) await this.show();
  }

  /** Show the first part of the CTs that match the search. */
  async show() {
    this.listing?.abort();
    this.listing = new AbortController();
    this.pictures.disconnect();
    this.wanted.clear();
    for (const image of this.rows.querySelectorAll("img[src]")) URL.revokeObjectURL(image.src);
    this.rows.replaceChildren();
    this.more.hidden = true;
    this.isFetching = false;
    await this.append();
  }

  async append() {
    if (this.isFetching) return;
    this.isFetching = true;
    const { signal } = this.listing;
    try {
      const query = { search: this.search.value, offset: this.rows.children.length, limit: PART };
      const found = await getJson("ct2pet/images", query, signal);
      this.rows.append(...found.images.map((image) => this.row(image)));
      const shown = this.rows.children.length;
      this.more.hidden = shown >= found.matching || found.images.length === 0;
      const which = found.matching === found.total ? `${found.total} CTs` : `${found.matching} of ${found.total} CTs`;
      this.count.textContent = [which, shown < found.matching ? `${shown} shown` : "", found.incomplete].filter(Boolean).join(". ");
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      if (!signal.aborted) this.isFetching = false;
    }
    this.end.disconnect(); // observed anew, it tells whether there is still room on screen
    if (!this.more.hidden) this.end.observe(this.more);
  }

  row(image) {
    const row = document.createElement("li"), link = document.createElement("a");
    link.href = `#/ct/${encodeURIComponent(image.image)}`;
    const picture = document.createElement("img");
    picture.alt = "";
    picture.dataset.image = image.image;
    this.pictures.observe(picture);
    const what = document.createElement("span"), details = document.createElement("small"), state = document.createElement("span");
    what.className = "what";
    what.append(image.patient_id || image.image, details);
    const slices = image.slices === null ? "" : `${image.slices} slices`;
    details.textContent = [date(image.study_date), image.description, slices].filter(Boolean).join(", ");
    state.className = "status";
    state.textContent = status(image);
    link.append(picture, what, state);
    row.append(link);
    return row;
  }

  fetchSeen(seen) {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting) this.wanted.add(target);
      else this.wanted.delete(target);
    }
    while (this.fetching < PICTURES_AT_ONCE && this.wanted.size) this.fetchPictures();
  }

  /** Fetch wanted pictures, one after the other, until there are none. */
  async fetchPictures() {
    this.fetching++;
    while (this.wanted.size) {
      const [target] = this.wanted;
      this.wanted.delete(target);
      this.pictures.unobserve(target);
      await this.fetchPicture(target, this.listing.signal);
    }
    this.fetching--;
  }

  async fetchPicture(target, signal) {
    try {
      const response = await request("ct2pet/images/thumbnail", { query: { image: target.dataset.image }, signal });
      target.src = URL.createObjectURL(await response.blob());
    } catch {
      target.dataset.missing = ""; // opening the CT says what is wrong: it is damaged, or its PACS cannot be reached
    }
  }
}
