/* Shows the items of both tables. New items are highlighted for MARKED_MS. */

import {element} from "/page/elements.mjs";

const KEYS = {Websockets: ["id"], Messages: ["destinationPlayerId", "messageId"]};
const MARKED_MS = 1500;

export class Rows {
  #section = document.getElementById("tables");
  #since = new Map();
  #sinceNow = new Map();

  show(tables) {
    this.#sinceNow = new Map();
    for (const [name, {count, rows}] of Object.entries(tables)) {
      const shown = rows.length < count ? `the latest ${rows.length} of ` : "";
      const made = element("div", {id: `table-${name}`},
        element("h3", {text: `${name}, ${shown}${count} ${count === 1 ? "item" : "items"}`}),
        element("div", {class: "rows", tabindex: "0", role: "region", "aria-label": `Rows of ${name}`},
          this.#table(KEYS[name], rows)));
      const old = document.getElementById(made.id);
      if (old === null) this.#section.append(made);
      else old.replaceWith(made);
    }
    this.#since = this.#sinceNow;
  }

  #table(keys, items) {
    const titles = [...keys, "other attributes"].map(text => element("th", {text, scope: "col"}));
    const rows = items.map(item => this.#row(keys, item));
    return element("table", {},
      element("thead", {}, element("tr", {}, ...titles)),
      element("tbody", {}, ...rows));
  }

  #row(keys, item) {
    const now = Date.now(), whole = JSON.stringify(item), since = this.#since.get(whole) ?? now;
    this.#sinceNow.set(whole, since);
    const others = Object.entries(item).filter(([name]) => !keys.includes(name)).map(attribute);
    return element("tr", {class: now - since < MARKED_MS ? "fresh" : ""},
      ...keys.map(key => element("td", {class: "key", text: item[key]})),
      element("td", {}, ...others));
  }
}

function attribute([name, value]) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return element("span", {class: "attribute"}, element("i", {text: `${name} `}), text);
}
