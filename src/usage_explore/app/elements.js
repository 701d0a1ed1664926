const NOT = '<svg width="14" height="14" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.8" aria-hidden="true"><circle cx="8" cy="8" r="5.5"/><path d="M4.2 11.8 11.8 4.2"/></svg>'

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on") || name === "checked") made[name] = value
    else if (name === "icon") made.innerHTML = value // a constant of these files, never data
    else if (value !== null) made.setAttribute(name, value)
  }
  made.append(...children)
  return made
}
