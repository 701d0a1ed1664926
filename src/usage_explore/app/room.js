const DELAY_MILLISECONDS = 100

let reported  // the last theme that was reported: never twice, should the page not follow

// Say how wide the page's content is where that is little, and a theme that was switched while the page is open; the
// page is drawn again when it was drawn for another width or theme.
export default function (component) {
  const { data, setTriggerValue } = component
  const app = document.querySelector('[data-testid="stApp"]')
  const content = document.querySelector('[data-testid="stMainBlockContainer"]')
  let timer
  const say = () => {
    const style = getComputedStyle(content)
    const wide = content.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)
    const room = innerWidth > data.widest ? 0 : Math.floor(wide)
    if (room !== data.room) setTriggerValue("room", room)
    const theme = getComputedStyle(app).colorScheme
    if (theme !== data.theme && theme !== reported) setTriggerValue("theme", (reported = theme))
    if (theme === data.theme) reported = null
  }
  const resized = () => { clearTimeout(timer); timer = setTimeout(say, DELAY_MILLISECONDS) }
  say()
  addEventListener("resize", resized)
  const observer = new MutationObserver(resized)
  observer.observe(app, { attributeFilter: ["class"] })
  return () => { clearTimeout(timer); removeEventListener("resize", resized); observer.disconnect() }
}
