// What keeps people from reading, tapping or hearing the page, each as one line. WCAG 2.2: 1.4.3, 1.4.10, 1.4.11, 2.5.5, 3.1.1, 4.1.2.
const TARGET = 43.5, TEXT = 4.5, LARGE_TEXT = 3, EDGE = 3;

const told = [];
const tell = (what, element) => told.push(element ? `${what}: ${nameOf(element)}` : what);
const nameOf = (element) => `${element.localName} ${(element.getAttribute("aria-label") || element.name || element.textContent).trim().slice(0, 40)}`;
const isShown = (element) => {
  const box = element.getBoundingClientRect();
  return element.checkVisibility({visibilityProperty: true}) && box.width > 1 && box.height > 1;
};

// ── Colours ───────────────────────────────────────────────────────────────────────────────────
const parts = (color) => {
  const found = color.match(/^rgba?\(([^)]+)\)$/);
  if (!found) return null;
  const [red, green, blue, alpha = 1] = found[1].split(/[\s,/]+/).map(Number);
  return {red, green, blue, alpha};
};
const over = (top, below) => {
  const mixed = (name) => top[name] * top.alpha + below[name] * (1 - top.alpha);
  return {red: mixed("red"), green: mixed("green"), blue: mixed("blue"), alpha: 1};
};
const luminance = ({red, green, blue}) => {
  const [r, g, b] = [red, green, blue].map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
};
const behind = (element) => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    const color = parts(getComputedStyle(each).backgroundColor);
    if (color && color.alpha > 0) layers.unshift(color);
  }
  return layers.reduce((below, top) => over(top, below), {red: 255, green: 255, blue: 255, alpha: 1});
};

const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (words.nextNode()) {
  const element = words.currentNode.parentElement;
  if (!words.currentNode.data.trim() || element.closest("script, style, noscript, .skip") || !isShown(element)) continue;
  const style = getComputedStyle(element);
  const drawing = element.closest("svg");
  const color = parts(drawing ? style.fill : style.color);
  if (!color) continue;
  const ground = behind(drawing ? drawing.parentElement : element);
  const least = parseFloat(style.fontSize) >= 24 ? LARGE_TEXT : TEXT;
  const ratio = contrast(over(color, ground), ground);
  if (ratio < least) tell(`contrast ${ratio.toFixed(1)}`, element);
}
for (const field of document.querySelectorAll("input:not([type=hidden], [type=checkbox], [type=radio]), select, textarea, button")) {
  const style = getComputedStyle(field);
  const edge = parts(style.borderTopColor);
  const isBare = style.borderTopStyle === "none" || parseFloat(style.borderTopWidth) === 0 || !edge || edge.alpha === 0;
  if (!isShown(field) || isBare) continue;
  const ground = behind(field.parentElement);
  const ratio = Math.max(contrast(over(edge, ground), ground), contrast(behind(field), ground));
  if (ratio < EDGE) tell(`edge ${ratio.toFixed(1)}`, field);
}

// ── Room ──────────────────────────────────────────────────────────────────────────────────────
if (document.documentElement.scrollWidth > window.innerWidth) tell(`wider by ${document.documentElement.scrollWidth - window.innerWidth}`);
for (const target of document.querySelectorAll("a[href], button, summary, input:not([type=hidden]), select, textarea")) {
  const isInText = target.localName === "a" && getComputedStyle(target).display === "inline" && target.closest("p");
  if (!isShown(target) || isInText || target.matches(".skip")) continue;
  const boxes = [target, ...(target.labels || [])].map((each) => each.getBoundingClientRect());
  const height = Math.max(...boxes.map((box) => box.height));
  if (height < TARGET) tell(`${Math.round(height)} px high`, target);
}

// ── Names ─────────────────────────────────────────────────────────────────────────────────────
if (!document.documentElement.lang) tell("no language");
if (!document.title.trim()) tell("no title");
for (const tag of ["h1", "main"]) {
  const number = [...document.querySelectorAll(tag)].filter(isShown).length;
  if (number !== 1) tell(`${number} of ${tag}`);
}
for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
  if (isShown(field) && !field.labels.length && !field.ariaLabel) tell("no label", field);
}
for (const control of document.querySelectorAll("a[href], button")) {
  if (isShown(control) && !control.textContent.trim() && !control.ariaLabel) tell("no name", control);
}
for (const attribute of ["for", "aria-labelledby", "aria-describedby"]) {
  for (const element of document.querySelectorAll(`[${attribute}]`)) {
    for (const id of element.getAttribute(attribute).split(" ")) {
      if (!document.getElementById(id)) tell(`${attribute} leads to no ${id}`, element);
    }
  }
}
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
for (const id of new Set(ids)) if (ids.indexOf(id) !== ids.lastIndexOf(id)) tell(`two of #${id}`);

return told;
