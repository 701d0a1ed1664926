const MAX_ROWS = 60

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  let root = parentElement.querySelector(".picker")
  const isNew = !root || root.state.epoch !== data.epoch
  if (!root) {
    root = element("div", { class: "picker" })
    parentElement.append(root)
  }
  const drawn = { ids: [...data.ticked].sort(), action: data.action }
  if (isNew) root.state = { epoch: data.epoch, ticked: new Set(drawn.ids), action: drawn.action, text: "", sent: [] }
  const state = root.state
  const spelled = (ticks) => JSON.stringify([ticks.ids, ticks.ids.length ? ticks.action : ""])
  // the page may draw an older state while newer ticks are on their way: those stay, unless the page refused them
  const arrived = state.sent.indexOf(spelled(drawn))
  state.sent.splice(0, data.refused ? Infinity : arrived + 1)
  if (!state.sent.length) {
    state.ticked = new Set(drawn.ids)
    if (drawn.ids.length) state.action = drawn.action
  }
  const act = (ids, action) => setTriggerValue("act", { ids, action })
  const rowOf = (id) => data.rows.find((row) => row.id === id)
  const isAlone = (id) => Boolean(rowOf(id)?.alone)
  const send = () => {
    const ids = [...state.ticked].sort()
    state.sent.push(spelled({ ids, action: state.action }))
    act(ids, state.action)
    drawTicks()
  }
  const tick = (id, on, action = state.action) => {
    if (action !== state.action) state.ticked.clear()
    state.action = action
    if (on && action === "only") {
      for (const other of state.ticked) if (isAlone(id) || isAlone(other)) state.ticked.delete(other)
    }
    on ? state.ticked.add(id) : state.ticked.delete(id)
    send()
  }
  const isTicked = (id, action = state.action) => state.action === action && state.ticked.has(id)

  const input = element("input", { type: "search", class: "search", "aria-label": data.label, placeholder: data.placeholder, autocomplete: "off", spellcheck: "false" })
  const list = element("ul", { "aria-label": data.label })
  const foot = element("div", { class: "foot", role: "group", "aria-label": "Ticked values" })
  const targets = () => [...list.querySelectorAll("input, button.name")]

  // a value's whole row ticks it, but for the button at its end
  const line = (row) => {
    if (!data.field) {
      return element("li", {}, element("button", { class: "name", type: "button", title: row.title, "aria-label": row.name, "aria-current": row.id === data.current ? "true" : null, onclick: () => act([row.id], "only") }, row.name))
    }
    const box = element("input", { type: "checkbox", value: row.id, "aria-label": `Choose ${row.name}`, onchange: (event) => tick(row.id, event.target.checked) })
    const not = element("button", { class: "not", type: "button", value: row.id, title: `Not ${row.name}`, "aria-label": `Not ${row.name}`, onclick: () => tick(row.id, !isTicked(row.id, "not"), "not") }, NOT)
    return element("li", {}, element("label", { title: row.title }, box, element("span", { class: "name" }, row.name), element("span", { class: "count" }, row.count)), not)
  }

  const drawList = () => {
    const text = state.text.trim().toLowerCase()
    // the value that is the text itself comes before those that contain it
    const rank = (row) => (row.id === `=${state.text.trim()}` ? 0 : row.name.toLowerCase() === text ? 1 : 2)
    const matching = data.rows.filter((row) => row.find.toLowerCase().includes(text)).sort((a, b) => rank(a) - rank(b))
    list.replaceChildren(...matching.slice(0, MAX_ROWS).map(line))
    const more = matching.length - MAX_ROWS
    if (more > 0) list.append(element("li", { class: "note" }, `${more.toLocaleString("en")} more: type a part of one`))
    if (!matching.length && !(text && data.typable)) list.append(element("li", { class: "note" }, data.none))
    if (text && data.typable && !matching.some((row) => row.id === `=${state.text.trim()}`)) {
      const written = state.text.trim()
      const use = (action) => (data.searched ? setTriggerValue("typed", { text: written, action }) : tick(`=${written}`, true, action))
      list.append(element("li", {}, element("button", { class: "name", type: "button", onclick: () => use("only") }, `Only “${written}”`), element("button", { class: "not", type: "button", title: `Not “${written}”`, "aria-label": `Not “${written}”`, onclick: () => use("not") }, NOT)))
    }
    drawTicks()
  }

  const drawTicks = () => {
    root.dataset.action = state.action
    for (const box of list.querySelectorAll("input")) box.checked = state.ticked.has(box.value)
    for (const not of list.querySelectorAll(".not[value]")) not.setAttribute("aria-pressed", String(isTicked(not.value, "not")))
    const number = state.ticked.size
    foot.hidden = !data.field
    const choice = (action, text) => element("button", {
      class: "choice", type: "button", "aria-pressed": String(state.action === action),
      disabled: action === "only" && number > 1 && [...state.ticked].some(isAlone) ? "" : null,
      onclick: () => { state.action = action; number ? send() : drawTicks(); foot.querySelector("[aria-pressed=true]").focus() },
    }, text)
    foot.replaceChildren(choice("only", "Only ticked"), choice("not", "Not ticked"),
      ...(number ? [element("button", { class: "clear", type: "button", onclick: () => { state.ticked.clear(); send(); input.focus() } }, `Untick ${number.toLocaleString("en")}`)] : []))
  }

  input.value = state.text
  input.oninput = () => { state.text = input.value; drawList() }
  input.onkeydown = (event) => {
    if (event.key === "ArrowDown") { targets()[0]?.focus(); event.preventDefault() }
    if (event.key === "Enter" && state.text.trim()) targets()[0]?.click()
  }
  list.onkeydown = (event) => {
    if (event.key === "Enter" && event.target.type === "checkbox") event.target.click()
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    const all = targets()
    if (!step || !all.includes(event.target)) return
    const next = all[all.indexOf(event.target) + step]
    ;(next ?? (step < 0 ? input : event.target)).focus()
    event.preventDefault()
  }
  const focused = (parentElement.host ? parentElement : parentElement.getRootNode()).activeElement
  const [name, caret] = [focused?.getAttribute?.("aria-label") ?? focused?.textContent, focused?.selectionStart]
  const top = root.querySelector("ul")?.scrollTop ?? 0
  root.replaceChildren(input, list, foot)
  drawList()
  if (!isNew) list.scrollTop = top
  const again = isNew ? input : focused && [...root.querySelectorAll("input, button")].find((one) => (one.getAttribute("aria-label") ?? one.textContent) === name)
  if (again) again.focus({ preventScroll: true })
  if (again === input && !isNew) input.setSelectionRange(caret, caret)
}
