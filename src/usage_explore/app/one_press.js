const PAUSE_MILLISECONDS = 700

// A second press of the same button that writes a record, right after the first, two Enters or an impatient double click,
// would be sent with what the page showed before the first took effect: a period would be signed twice. It is taken for a
// part of the first.
export default function ({ data }) {
  const buttons = data.keys.map((key) => `[class*="st-key-${key}"] button`).join()
  let last = null, at = -Infinity
  const check = (event, control) => {
    const pressed = `${containerOf(control)} ${label(control)}`  // the page may draw it anew in between
    if (pressed === last && event.timeStamp - at < PAUSE_MILLISECONDS) {
      event.preventDefault()
      event.stopImmediatePropagation()
    } else {
      [last, at] = [pressed, event.timeStamp]
    }
  }
  const click = (event) => {
    const button = event.target.closest(buttons)
    if (button) check(event, button)
    else last = null
  }
  const press = (event) => {
    const field = event.key === "Enter" && event.target.closest('[data-testid="stForm"] input')
    if (field) check(event, field)
  }
  addEventListener("click", click, true)
  addEventListener("keydown", press, true)
  return () => {
    removeEventListener("click", click, true)
    removeEventListener("keydown", press, true)
  }
}
