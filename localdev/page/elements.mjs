/* Elements of this page. What came over the network gets into it as text, and never as HTML. */

export function element(name, {text, ...attributes} = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/* At the top of a list that keeps only so many. */
export function prepend(list, item, most) {
  list.prepend(item);
  while (list.children.length > most) list.lastElementChild.remove();
}

export function clock(at) {
  const moment = new Date(at);
  const digits = (number, count) => String(number).padStart(count, "0");
  const time = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map(part => digits(part, 2));
  return `${time.join(":")}.${digits(moment.getMilliseconds(), 3)}`;
}
