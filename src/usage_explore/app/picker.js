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
  const act = (ids, action, ticked = false) => setTriggerValue("act", { ids, action, ticked })
  const typed = (action) => setTriggerValue("typed", { text: state.text.trim(), action })
  const send = () => {
    const ids = [...state.ticked].sort()
    state.sent.push(spelled({ ids, action: state.action }))
    act(ids, state.action, true)
    for (const box of list.querySelectorAll("input")) box.checked = state.ticked.has(box.value)
    drawFoot()
  }
  const tick = (id, on) => {
    if (on && data.single && state.action === "only") state.ticked.clear()
    on ? state.ticked.add(id) : state.ticked.delete(id)
    send()
  }

  const input = element("input", { type: "search", class: "search", "aria-label": data.label, placeholder: data.placeholder, autocomplete: "off", spellcheck: "false" })
  const list = element("ul", { "aria-label": data.label })
  const foot = element("div", { class: "foot", role: "group", "aria-label": "Ticked values" })
  const buttons = () => [...list.querySelectorAll("button.name")]

  const line = (row) => {
    const name = element("button", { class: "name", type: "button", title: row.title, "aria-label": data.field ? `Only ${row.name}` : row.name, "aria-current": row.id === data.current ? "true" : null, onclick: () => act([row.id], "only") }, row.name)
    const made = element("li")
    if (data.multiple && row.tickable) {
      made.append(element("input", { type: "checkbox", value: row.id, "aria-label": `Choose ${row.name}`, checked: state.ticked.has(row.id), onchange: (event) => tick(row.id, event.target.checked) }))
    } else if (data.multiple) made.append(element("span", { class: "box" }))
    made.append(name, element("span", { class: "count" }, row.count))
    if (data.field) made.append(element("button", { class: "not", type: "button", title: `Not ${row.name}`, "aria-label": `Not ${row.name}`, onclick: () => act([row.id], "not") }, NOT))
    return made
  }

  const drawList = () => {
    const text = state.text.trim().toLowerCase()
    const matching = data.rows.filter((row) => row.find.toLowerCase().includes(text))
    list.replaceChildren(...matching.slice(0, MAX_ROWS).map(line))
    const more = matching.length - MAX_ROWS
    if (more > 0) list.append(element("li", { class: "note" }, `${more.toLocaleString("en")} more: type a part of one`))
    if (!matching.length && !(text && data.typable)) list.append(element("li", { class: "note" }, data.none))
    if (text && data.typable && !matching.some((row) => row.id === `=${state.text.trim()}`)) {
      const written = state.text.trim()
      const use = element("button", { class: "name", type: "button", onclick: () => typed("only") }, `Only “${written}”`)
      list.append(element("li", {}, ...(data.multiple ? [element("span", { class: "box" })] : []), use, element("button", { class: "not", type: "button", title: `Not “${written}”`, "aria-label": `Not “${written}”`, onclick: () => typed("not") }, NOT)))
    }
    return matching
  }

  const drawFoot = () => {
    const number = state.ticked.size
    foot.hidden = !data.multiple
    const choice = (action, text) => element("button", {
      class: "choice", type: "button", "aria-pressed": String(state.action === action),
      disabled: action === "only" && data.single && number > 1 ? "" : null,
      onclick: () => { state.action = action; number ? send() : drawFoot(); foot.querySelector("[aria-pressed=true]").focus() },
    }, text)
    foot.replaceChildren(choice("only", "Only ticked"), choice("not", "Not ticked"),
      ...(number ? [element("button", { class: "clear", type: "button", onclick: () => { state.ticked.clear(); send(); input.focus() } }, `Untick ${number.toLocaleString("en")}`)] : []))
  }

  input.value = state.text
  input.oninput = () => { state.text = input.value; drawList() }
  input.onkeydown = (event) => {
    if (event.key === "ArrowDown") { buttons()[0]?.focus(); event.preventDefault() }
    if (event.key === "Enter" && state.text.trim()) buttons()[0]?.click()
  }
  list.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (!step || !event.target.classList.contains("name")) return
    const all = buttons()
    const next = all[all.indexOf(event.target) + step]
    ;(next ?? (step < 0 ? input : event.target)).focus()
    event.preventDefault()
  }
  const focused = (parentElement.host ? parentElement : parentElement.getRootNode()).activeElement
  const [name, caret] = [focused?.getAttribute?.("aria-label") ?? focused?.textContent, focused?.selectionStart]
  const top = root.querySelector("ul")?.scrollTop ?? 0
  root.replaceChildren(input, list, foot)
  drawList()
  drawFoot()
  if (!isNew) list.scrollTop = top
  const again = isNew ? input : focused && [...root.querySelectorAll("input, button")].find((one) => (one.getAttribute("aria-label") ?? one.textContent) === name)
  if (again) again.focus({ preventScroll: true })
  if (again === input && !isNew) input.setSelectionRange(caret, caret)
}
