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

// Go to a link of the app without loading it anew. Streamlit's `switch_page` would leave a second entry in the history,
// with the parameters of the new page on the old one.
const visit = (href) => {
  history.pushState({}, "", href)
  window.dispatchEvent(new PopStateEvent("popstate", { state: {} }))
}
