const MAX_WAIT_MILLISECONDS = 5000

export default function (component) {
  const { data, parentElement } = component
  if (parentElement.querySelector("i")) return // only when it appears
  const mark = element("i", { hidden: "" })
  parentElement.append(mark)
  const until = performance.now() + MAX_WAIT_MILLISECONDS
  const look = () => { // the browser may still load what draws the element
    const target = document.querySelector(data.selector)
    if (target) {
      if (target.matches("input, button")) target.focus({ preventScroll: true })
      else focusAround(target, label(document.querySelector('[data-testid="stPopoverButton"][aria-expanded="true"]') ?? target))
    } else if (mark.isConnected && performance.now() < until) requestAnimationFrame(look)
  }
  look()
}
