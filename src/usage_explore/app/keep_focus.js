const PATIENCE_MILLISECONDS = 1000  // of a run, after which the focus has a place meanwhile

const TABLE_LOOKS = 15, TABLE_MILLISECONDS = 100  // in which a table that got the focus has drawn its cells

const CONTROLS = "a[href], button, input, select, textarea, [role=button], [tabindex='0']"

const NEAREST = 20  // controls before and after

const isControl = (each) => each.matches(CONTROLS) && !each.matches(":disabled, [type=hidden], [tabindex='-1']")

const nearest = (place, step) => {
  const filter = (each) => (isControl(each) ? NodeFilter.FILTER_ACCEPT : NodeFilter.FILTER_SKIP)
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT, filter), found = []
  walker.currentNode = place
  while (found.length < NEAREST && walker[step]()) found.push(walker.currentNode)
  return found
}

const isUsable = (control) => control.isConnected && control.checkVisibility() && !control.matches(":disabled")

// the control, or where the page has drawn it anew the one with its label, or the only one, in the container of its key
const drawn = ({ control, name, container }) => {
  if (isUsable(control)) return control
  const found = name && container ? [...document.querySelectorAll(`${container} ${control.localName}`)] : []
  const others = found.filter((each) => each.matches(CONTROLS))
  return others.find((each) => (label(each) === name || others.length === 1) && isUsable(each))
}

// a table has a key of its own for each state: it is found by the container around it
const keyed = (control) =>
  containerOf(control.localName === "canvas" ? control.closest('[data-testid="stElementContainer"]').parentElement : control)

const CELL = /^glide-cell-\d+-(\d+)$/ // of a table, by column and row

// the cell of a row in its column of ranks, where the keyboard moves along the table; those that can be seen are there
const cellOf = (table, row) => {
  const heading = [...table.querySelectorAll("[role=columnheader]")].find((each) => each.textContent === "#")
  const column = heading?.getAttribute("aria-colindex")
  return [...table.querySelectorAll(`[id$="-${row}"]`)].find((each) =>
    CELL.test(each.id) && each.getAttribute("aria-colindex") === column)
}

// When the page removes or disables the control that has the focus, the browser leaves the focus nowhere, and the next
// Tab starts at the top of the page. After a key, give it to what surrounds the control, if it is drawn anew or enabled
// again, else the nearest one before, else after, else the page, as far as that gives it to none: Tab goes on from there,
// and a second Enter presses nothing. From a popover, also after a click, it goes back to the button that opened it.
// While a long run goes on, and until the control is drawn, the focus waits at the nearest of them that is there.
// A table that is drawn anew takes it back, in the row where it was.
export default function () {
  let last = null, given = null, rank, isByKey = false, opener = null, row = null, presses = 0, beside = [], timer = null
  const remember = (event) => {
    if (event.target === given) return
    given = null
    const before = last
    last = event.composedPath().find((each) => each instanceof Element && each.matches(CONTROLS)) ?? null
    if (!last) return
    row = CELL.exec(event.target.id)?.[1] ?? (last === before ? row : null)
    const popover = last.closest('[data-testid="stPopoverBody"]')
    opener = popover && document.querySelector('[data-testid="stPopoverButton"][aria-expanded="true"]')
    const path = event.composedPath()
    const place = opener ?? path.find((each, index) => index >= path.indexOf(last) && each.getRootNode() === document)
    beside = [place, ...nearest(place, "previousNode"), ...nearest(place, "nextNode")].map((control) => ({
      control, name: label(control), container: keyed(control),
    }))
  }
  const press = () => { isByKey = true; presses++ }
  const click = (event) => {
    isByKey = false
    if (event.target.closest('[data-testid="stPopoverBody"]')) remember(event)
  }
  const isNowhere = () => last && (isByKey || opener) && document.activeElement === document.body
  const isLost = () => isNowhere() && (!(given ?? last).isConnected || (given ?? last).matches(":disabled"))
  const isWaiting = () => given && rank > 0 && document.activeElement === given
  const look = (until) => {
    timer = null
    if (!isNowhere() && !isWaiting()) return
    const isRunning = document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState !== "notRunning"
    if (!isWaiting() && isRunning && performance.now() < until) return void (timer = setTimeout(look, 50, until))
    if (opener?.isConnected) return opener.focus({ preventScroll: true })
    const controls = beside.map(drawn), found = controls.findIndex(Boolean)
    if (isWaiting() && !(found >= 0 && found < rank)) return
    if (found === 0 && controls[0].localName === "canvas") {
      const cell = cellOf(controls[0], row) // the browser draws it some time after the table
      if (row && !cell && performance.now() < until) return void (timer = setTimeout(look, 50, until))
      const table = controls[0], at = row, before = presses
      ;(cell ?? table).focus({ preventScroll: true })
      // without a ticked box the table then goes to its first row by itself
      const again = (times) => {
        if (presses !== before || !times || !table.contains(document.activeElement)) return
        cellOf(table, at)?.focus({ preventScroll: true })
        setTimeout(again, TABLE_MILLISECONDS, times - 1)
      }
      return again(TABLE_LOOKS)
    }
    const place = controls[found]?.closest('[data-testid="stElementContainer"], [class*="st-key-"]')
    rank = place ? found : NEAREST * 2 + 1
    given = place ?? document.querySelector('[data-testid="stMain"]')
    if (given && given !== document.activeElement) focusAround(given, place ? label(controls[found]) : document.title)
  }
  const observer = new MutationObserver(() => {
    if (!timer && (isLost() || isWaiting())) timer = setTimeout(look, 50, performance.now() + PATIENCE_MILLISECONDS)
  })
  observer.observe(document.body, { childList: true, subtree: true, attributeFilter: ["disabled"] })
  addEventListener("focusin", remember, true)
  addEventListener("keydown", press, true)
  addEventListener("pointerdown", click, true)
  return () => {
    clearTimeout(timer)
    observer.disconnect()
    removeEventListener("focusin", remember, true)
    removeEventListener("keydown", press, true)
    removeEventListener("pointerdown", click, true)
  }
}
