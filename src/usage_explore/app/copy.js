// A table copies what its cells show, and adds their values to its HTML: put these in the clipboard in its place.
// Values of text columns are as in a CSV, where an apostrophe is before what a spreadsheet would take for a formula.
const value = (cell) => {
  const shown = cell.textContent
  const value = (cell.getAttribute("gdg-raw-value") ?? shown).replace(/\]\u200b$/, "]")
  if (value === shown || !value.startsWith("'")) return value
  return value.slice(1) || "(empty)"
}

const quoted = (text) => (/[\t\n"]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)

export default function () {
  const replace = ({ clipboardData }) => {
    const copied = clipboardData?.getData("text/html") ?? ""
    if (!copied.includes("gdg-raw-value=")) return
    const table = new DOMParser().parseFromString(copied, "text/html").querySelector("table")
    const rows = [...table.rows].map((row) => [...row.cells].map(value))
    clipboardData.setData("text/plain", rows.map((row) => row.map(quoted).join("\t")).join("\n"))
    const body = rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text))))
    clipboardData.setData("text/html", element("table", {}, ...body).outerHTML)
  }
  const afterTheTables = ({ type }) => addEventListener(type, replace, { once: true })
  for (const type of ["copy", "cut"]) addEventListener(type, afterTheTables, true)
  return () => {
    for (const type of ["copy", "cut"]) removeEventListener(type, afterTheTables, true)
  }
}
