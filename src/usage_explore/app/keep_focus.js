const MAX_WAIT_MILLISECONDS = 5000

const CONTROLS = "a[href], button, input, select, textarea, [role=button], [tabindex='0']"

const controls = (root) => [...root.querySelectorAll("*")].flatMap((each) => [
  ...(each.matches(CONTROLS) && !each.matches(":disabled, [type=hidden], [tabindex='-1']") ? [each] : []),
  ...(each.shadowRoot ? controls(each.shadowRoot) : []),
])

// When the page removes the control that has the focus, the browser leaves the focus nowhere, and the next Tab starts at
// the top of the page. After a key, give it to what surrounds the nearest control before, else after, as far as the page
// itself gives it to none: Tab goes on from there, and a second Enter presses nothing. From a popover, also after a
// click, it goes back to the button that opened it.
export default function () {
  let last = null, opener = null, beside = [], timer
  const remember = (event) => {
    last = event.composedPath().find((each) => each instanceof Element && each.matches(CONTROLS)) ?? null
    if (!last) return
    const popover = last.closest('[data-testid="stPopoverBody"]')
    opener = popover && document.querySelector('[data-testid="stPopoverButton"][aria-expanded="true"]')
    const all = controls(document.body)
    const place = all.indexOf(opener ?? last)
    beside = [...all.slice(0, place + 1).reverse(), ...all.slice(place + 1)]
  }
  const forget = (event) => {
    if (event.target.closest('[data-testid="stPopoverBody"]')) return remember(event)
    setTimeout(() => { last = null })  // after the focus that the click gives
  }
  const isLost = () => last && !last.isConnected && document.activeElement === document.body
  const look = (until) => {
    if (!isLost()) return
    const app = document.querySelector('[data-testid="stApp"]')
    if (app?.dataset.testScriptState !== "notRunning" && performance.now() < until) {
      timer = setTimeout(look, 50, until)
      return
    }
    const next = beside.find((each) => each.isConnected && each.checkVisibility() && !each.matches(":disabled"))
    const place = next?.closest('[data-testid="stElementContainer"]')
    last = null
    if (opener?.isConnected) return opener.focus({ preventScroll: true })
    if (!place) return
    place.tabIndex = -1
    place.style.outline = "none"
    place.focus({ preventScroll: true })
  }
  const observer = new MutationObserver(() => {
    if (!isLost()) return
    clearTimeout(timer)
    timer = setTimeout(look, 50, performance.now() + MAX_WAIT_MILLISECONDS)
  })
  observer.observe(document.body, { childList: true, subtree: true })
  addEventListener("focusin", remember, true)
  addEventListener("pointerdown", forget, true)
  return () => {
    clearTimeout(timer)
    observer.disconnect()
    removeEventListener("focusin", remember, true)
    removeEventListener("pointerdown", forget, true)
  }
}
