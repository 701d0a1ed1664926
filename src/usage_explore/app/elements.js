const NOT = "≠"

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
