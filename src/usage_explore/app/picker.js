const MAX_ROWS = 60

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  let root = parentElement.querySelector(".picker")
  const isNew = !root || root.state.epoch !== data.epoch
  if (!root) {
    root = element("div", { class: "picker" })
    parentElement.append(root)
  }
  if (isNew) root.state = { epoch: data.epoch, ticked: new Set(data.ticked), text: "" }
  const state = root.state
  const act = (ids, action, ticked = false) => setTriggerValue("act", { ids, action, ticked })
  const typed = (action) => setTriggerValue("typed", { text: state.text.trim(), action })

  const input = element("input", { type: "search", class: "search", "aria-label": data.label, placeholder: data.placeholder, autocomplete: "off", spellcheck: "false" })
  const list = element("ul", { "aria-label": data.label })
  const foot = element("div", { class: "foot" })
  const buttons = () => [...list.querySelectorAll("button.name")]

  const line = (row) => {
    const name = element("button", { class: "name", type: "button", title: row.title, "aria-label": data.field ? `Only ${row.name}` : row.name, onclick: () => act([row.id], "only") }, row.name)
    const made = element("li")
    if (data.multiple && row.tickable) {
      const box = element("input", { type: "checkbox", "aria-label": `Choose ${row.name}`, checked: state.ticked.has(row.id), onchange: () => { box.checked ? state.ticked.add(row.id) : state.ticked.delete(row.id); drawFoot() } })
      made.append(box)
    } else if (data.multiple) made.append(element("span", { class: "box" }))
    made.append(name, element("span", { class: "count" }, row.count))
    if (data.field) made.append(element("button", { class: "not", type: "button", title: `Not ${row.name}`, "aria-label": `Not ${row.name}`, icon: NOT, onclick: () => act([row.id], "not") }))
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
      list.append(element("li", {}, ...(data.multiple ? [element("span", { class: "box" })] : []), use, element("button", { class: "not", type: "button", title: `Not “${written}”`, "aria-label": `Not “${written}”`, icon: NOT, onclick: () => typed("not") })))
    }
    return matching
  }

  const drawFoot = () => {
    const ids = [...state.ticked]
    const number = ids.length
    foot.hidden = !number
    if (!number) return foot.replaceChildren()
    const many = number === 1 ? "this" : `these ${number}`
    const only = element("button", { class: "apply", type: "button", onclick: () => act(ids, "only", true) }, `Only ${many}`)
    const not = element("button", { class: "apply", type: "button", onclick: () => act(ids, "not", true) }, `Not ${many}`)
    foot.replaceChildren(...(number > 1 && data.single ? [] : [only]), not)
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
  const hadFocus = focused?.classList?.contains("search")
  root.replaceChildren(input, list, foot)
  drawList()
  drawFoot()
  if (isNew || hadFocus) input.focus({ preventScroll: true })
}
