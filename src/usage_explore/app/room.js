const DELAY_MILLISECONDS = 100

// Say how wide the page's content is where that is little; the page is drawn again when it was drawn for another width.
export default function (component) {
  const { data, setTriggerValue } = component
  const content = document.querySelector('[data-testid="stMainBlockContainer"]')
  let timer
  const say = () => {
    const style = getComputedStyle(content)
    const wide = content.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)
    const room = innerWidth > data.widest ? 0 : Math.floor(wide)
    if (room !== data.room) setTriggerValue("room", room)
  }
  const resized = () => { clearTimeout(timer); timer = setTimeout(say, DELAY_MILLISECONDS) }
  say()
  addEventListener("resize", resized)
  return () => { clearTimeout(timer); removeEventListener("resize", resized) }
}
