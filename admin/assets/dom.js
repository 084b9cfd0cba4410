// element makes an element with properties, data and children, in one expression.
export function element (name, properties = {}, ...children) {
  const made = document.createElement(name)
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value
    else made.setAttribute(key, value)
  }
  made.append(...children)
  return made
}

// setText changes a text only if it is another one: nothing is laid out or read out for nothing.
export function setText (element, text) {
  if (element.textContent !== text) element.textContent = text
}
