/** Making and reusing elements; text is only ever set as text. */

type Attributes = Readonly<Record<string, string>>;

/** An element with attributes and children. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A button that calls back. */
export function button(label: string, className: string, act: () => void): HTMLButtonElement {
  const element = el("button", { type: "button", class: className }, label);
  element.addEventListener("click", act);
  return element;
}

/** Touch the page only where it differs: assistive technology and selections stay undisturbed. */
export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** One row of a keyed list: `version` says when it must be drawn anew. */
export interface Row {
  readonly key: string;
  readonly version: string;
  readonly draw: () => HTMLElement;
}

/** A list whose rows keep their elements as long as key and version stay. */
export class KeyedList {
  private rows = new Map<string, { version: string; element: HTMLElement }>();

  constructor(private readonly parent: HTMLElement) {}

  update(wanted: readonly Row[]): void {
    const next = new Map<string, { version: string; element: HTMLElement }>();
    for (const row of wanted) {
      const old = this.rows.get(row.key);
      next.set(row.key, old?.version === row.version ? old : { version: row.version, element: row.draw() });
    }
    for (const [key, old] of this.rows) if (next.get(key)?.element !== old.element) old.element.remove();
    this.rows = next;
    let place = this.parent.firstElementChild;
    for (const { element } of next.values()) {
      if (element === place) place = place.nextElementSibling;
      else this.parent.insertBefore(element, place);
    }
  }
}
