export default function (component) {
  const { data, parentElement } = component
  if (parentElement.querySelector("i")) return // only when it appears
  parentElement.append(element("i", { hidden: "" }))
  visit(data.href)
}
