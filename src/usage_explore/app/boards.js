const SEARCH_DELAY_MILLISECONDS = 350
const LENS = '<svg width="14" height="14" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.8" aria-hidden="true"><circle cx="7" cy="7" r="4.5"/><path d="M10.5 10.5 14 14"/></svg>'

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.host ? parentElement : parentElement.getRootNode()
  const focused = root.activeElement
  const place = focused?.dataset?.place
  const typed = focused?.tagName === "INPUT" ? [focused.value, focused.selectionStart] : null

  const searching = (table, text) => setTriggerValue("search", { table: table.id, text })

  const row = (table, cell, index) => {
    const act = (action) => () => setTriggerValue("act", { table: table.id, row: index, action })
    const name = cell.actionable
      ? element("button", { class: "name", type: "button", title: `Only ${cell.title}`, "aria-label": `Only ${cell.name}`, "data-place": `${table.id} ${index}`, onclick: act("only") }, cell.name)
      : element("span", { class: "name", title: cell.title }, cell.name)
    const bar = element("span", { class: cell.is_against ? "bar against" : "bar", "aria-hidden": "true", style: `width:${Math.max(0, Math.min(1, cell.share)) * 100}%` })
    const not = element("td", { class: "not" })
    const follow = (href) => (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return // the browser opens another tab
      event.preventDefault()
      visit(href)
    }
    if (cell.rows) not.append(element("a", { class: "rows", href: cell.rows, title: cell.rows_title, "aria-label": `Rows of ${cell.name}`, onclick: follow(cell.rows) }, "Rows"))
    if (cell.link) not.append(element("a", { href: cell.link, title: `Page of ${cell.name}`, "aria-label": `Page of ${cell.name}`, onclick: follow(cell.link) }, "↗"))
    if (cell.excludable) not.append(element("button", { type: "button", title: `Not ${cell.name}`, "aria-label": `Not ${cell.name}`, onclick: act("not") }, NOT))
    cell.exclusions.forEach((title, place) => not.append(element("button", { type: "button", title, "aria-label": title, onclick: () => setTriggerValue("exclude", { row: index, place }) }, NOT)))
    return element("tr", { title: cell.title }, element("th", { scope: "row" }, name, bar),
      element("td", { class: "total" }, cell.total), element("td", { class: "part", "data-of": data.headings[1] }, cell.part),
      element("td", { class: "change" }, cell.change), not)
  }

  const board = (table) => {
    const title = table.groupable
      ? element("button", { type: "button", title: `Group the chart by ${table.name}`, "data-place": `${table.id} title`, onclick: () => setTriggerValue("group", { table: table.id }) }, table.name)
      : table.name
    const open = table.search !== null
    const lens = element("button", { class: "icon", type: "button", "aria-label": `Search ${table.name}`, "aria-expanded": String(open), title: `Search ${table.name}`, icon: LENS, "data-place": `${table.id} lens`, onclick: () => searching(table, open ? null : "") })
    const made = element("section", { "aria-label": table.name },
      element("header", {}, element("h3", {}, title), element("span", { class: "values" }, table.values), ...(table.searchable ? [lens] : [])))
    if (open) {
      let timer
      const input = element("input", { type: "search", "aria-label": `Search ${table.name}`, placeholder: "Part of a name or id", "data-place": `${table.id} search`,
        oninput: () => { clearTimeout(timer); timer = setTimeout(() => searching(table, input.value), SEARCH_DELAY_MILLISECONDS) },
        onkeydown: (event) => {
          if (event.key === "Enter") { clearTimeout(timer); searching(table, input.value) }
          if (event.key === "Escape") { clearTimeout(timer); searching(table, null) }
        } })
      input.value = table.search
      made.append(input)
    }
    const heads = [["", ""], ["total", data.headings[0]], ["part", data.headings[1]], ["change", data.headings[2]]]
    made.append(element("table", { "aria-label": table.name },
      element("thead", {}, element("tr", {}, ...heads.map(([kind, text]) => element(text ? "th" : "td", { class: kind, scope: text ? "col" : null }, text)), element("td", { class: "not" }))),
      element("tbody", {}, ...table.rows.map((cell, index) => row(table, cell, index)))))
    if (table.note) made.append(element("p", { class: "note" }, table.note))
    return made
  }

  let boards = parentElement.querySelector(".boards")
  if (!boards) {
    boards = element("div", { class: "boards" })
    parentElement.append(boards)
  }
  boards.className = `boards ${data.layout}`
  const opened = data.tables.find((table) => table.search !== null && !boards.querySelector(`[data-place="${CSS.escape(table.id + " search")}"]`))
  boards.replaceChildren(...data.tables.map(board))
  const target = opened ? `${opened.id} search` : place
  const next = target && boards.querySelector(`[data-place="${CSS.escape(target)}"]`)
  if (next) {
    next.focus({ preventScroll: true })
    if (typed && next.tagName === "INPUT" && !opened) { next.value = typed[0]; next.setSelectionRange(typed[1], typed[1]) }
  }
}
