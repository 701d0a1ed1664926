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

// the selector of the innermost container that has a key
const containerOf = (control) => {
  const key = [...(control.closest('[class*="st-key-"]')?.classList ?? [])].find((each) => each.startsWith("st-key-"))
  return key && `.${CSS.escape(key)}`
}

// without the names of icons, which are a part of the text of Streamlit's buttons
const label = (control) =>
  control.getAttribute("aria-label") ||
  (control.querySelector('[data-testid="stMarkdownContainer"]') ?? control).textContent.trim()

// Give the focus to what surrounds controls: the next Tab goes to its first one. While it has the focus it has a name for
// screen readers, and after a key the browser's outline.
const focusAround = (place, name) => {
  place.tabIndex = -1
  place.style.outlineOffset = "0.4rem" // beside the text, not on it
  if (!place.hasAttribute("role")) {
    place.setAttribute("role", "group")
    place.setAttribute("aria-label", name)
    const forget = () => ["role", "aria-label"].forEach((each) => place.removeAttribute(each))
    place.addEventListener("blur", forget, { once: true })
  }
  place.focus({ preventScroll: true })
}
