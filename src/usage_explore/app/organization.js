const KEY = "usage_explore_organization"

// Keep in this browser's storage which organization was opened last, or say which one that is, for the list to begin
// with it. It is no cookie, which each request would carry, and no choice.
export default function (component) {
  const { data, setTriggerValue } = component
  try {
    if (data.opened) return localStorage.setItem(KEY, data.opened)
    const last = localStorage.getItem(KEY)
    if (last && last !== data.first) setTriggerValue("last", last)
  } catch (error) {
    if (!(error instanceof DOMException)) throw error // the browser denies its storage
  }
}
