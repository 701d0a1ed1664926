const QUIET_MILLISECONDS = 700  // without a change of the page, after which it has been drawn

// hidden for the eye alone
const HIDDEN = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap"

// the headline's numbers with their meanings, without the names of icons, which are a part of the text
const words = () => {
  const headline = document.querySelector(".st-key-headline")?.cloneNode(true)
  headline?.querySelectorAll('[data-testid="stIconMaterial"], button').forEach((each) => each.remove())
  const numbers = headline ? [...headline.querySelectorAll('[data-testid="stHeading"]')] : []
  return numbers.map((each) => each.textContent.replace(/\s+/g, " ").trim()).filter(Boolean).join("; ")
}

// Let screen readers say the numbers of the headline once they have changed, such as after another filter: the focus
// stays at the control. What the page shows first, and another page of the app, is read as any page.
export default function () {
  const status = element("div", { role: "status", style: HIDDEN })
  document.body.append(status)  // the component itself is not displayed, and would not be read
  let said = "", path = "", timer = null
  const say = () => {
    const now = words()
    if (!now || now === said) return
    if (said && location.pathname === path) status.textContent = now
    said = now
    path = location.pathname
    status.dataset.known = ""  // there are numbers that the next ones are compared with
  }
  say()
  const observer = new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(say, QUIET_MILLISECONDS) })
  observer.observe(document.querySelector('[data-testid="stMain"]'), { childList: true, characterData: true, subtree: true })
  return () => { clearTimeout(timer); observer.disconnect(); status.remove() }
}
