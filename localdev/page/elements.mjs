/* Creates elements of the page. Values from the network are inserted as text, never as HTML. */

export function element(name, {text, ...attributes} = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/* Insert the item at the top of the list, and remove the oldest items above `most`. */
export function prepend(list, item, most) {
  list.prepend(item);
  while (list.children.length > most) list.lastElementChild.remove();
}

/* Format epoch milliseconds as local time, HH:MM:SS.mmm. */
export function clock(at) {
  const moment = new Date(at);
  const digits = (number, count) => String(number).padStart(count, "0");
  const time = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(part => digits(part, 2));
  return `${time.join(":")}.${digits(moment.getMilliseconds(), 3)}`;
}
