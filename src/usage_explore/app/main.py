"""The script that Streamlit runs: page configuration, style, and the pages."""

from __future__ import annotations

import streamlit as st

from usage_explore.app import components, demo_fill, events, explore, grid, home, metrics, open_link, sign_in
from usage_explore.app.customer import page as customer
from usage_explore.app.load import page as load
from usage_explore.app.navigation import Pages
from usage_explore.app.problems import shown
from usage_explore.app.validate import page as validate
from usage_explore.web.routes import OPEN_PAGE

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#2f6db5" d="M1 9h4v6H1z"/>'
    '<path fill="#c9650a" d="M6 5h4v10H6z"/><path fill="#1b8a5a" d="M11 1h4v14h-4z"/></svg>'
)

# Streamlit's colours of these elements, which no theme option sets, are below a contrast of 4.5:1 in one of the themes.
# The header is one row from 1024 pixels; below, its space is the break between a row of links and one of controls. What
# has no room for its word is an icon with that word as its name.
# A table's toolbar, visible under the pointer, covers 43 pixels above the table: the margin and a gap keep them empty.
# Streamlit's bar over the page is empty but for its menu, which lies in the page's margin beside the header; where that
# margin is too narrow, the menu leaves with the header, as it would cover what scrolls below it. What the bar shows
# while a script runs lies in the corner below.
# A table that has more columns or rows than it shows has a shadow at that edge, until it is scrolled to its end: its
# edge may be that of a column. A timeline of what does not scroll is not active.
# The list beside an open finding has the width of its columns, whose sentences would be cut; where both have no room
# the finding is above the list.
# An id is cut on screen and copied whole.
# The ways on from a load are links drawn like buttons: a button's `switch_page` writes the next page's parameters into
# the history's entry of this one, which Back then opens as a link that cannot be shown.
_STYLE = """<style>
[data-testid="stMainBlockContainer"] {{ padding-top: 0.6rem; }}
[data-testid="stHeader"] {{ background: none; }}
[data-testid="stHeader"], [data-testid="stHeader"] [data-testid="stToolbar"] {{ pointer-events: none; }}
[data-testid="stHeader"] button {{ pointer-events: auto; }}
[data-testid="stStatusWidget"] {{ position: fixed; right: 1rem; bottom: 0.5rem; }}
@media (max-width: 900px) {{ @supports (animation-timeline: --page) {{
  [data-testid="stApp"] {{ timeline-scope: --page; }}
  [data-testid="stMain"] {{ scroll-timeline: --page; }}
  [data-testid="stMainMenu"] {{ animation: leave linear both; animation-timeline: --page; animation-range: 0 2rem; }}
}} }}
@keyframes leave {{ to {{ visibility: hidden; }} }}
@media (min-width: 901px) {{ [data-testid="stMainBlockContainer"] {{ padding-left: 3rem; padding-right: 3rem; }} }}
.st-key-controls [data-testid="stButtonGroup"] button {{ padding-left: 0.6rem; padding-right: 0.6rem; }}
[data-testid="stButtonGroup"] button {{ min-height: 2.5rem; }}
.st-key-sign_in_page {{ padding-top: 15vh; }}
.st-key-show_controls,
[data-testid="stLayoutWrapper"]:has(> :is(.st-key-browser_storage, .st-key-room, .st-key-copied)),
[data-testid="stLayoutWrapper"]:has(> :is(.st-key-kept_focus, .st-key-one_press, .st-key-announced)) {{
  display: none;
}}
@property --more-right {{ syntax: "\\3c color\\3e"; inherits: false; initial-value: transparent; }}
@property --more-below {{ syntax: "\\3c color\\3e"; inherits: false; initial-value: transparent; }}
@keyframes more-right {{ from, 97% {{ --more-right: {shadow}; }} to {{ --more-right: transparent; }} }}
@keyframes more-below {{ from, 97% {{ --more-below: {shadow}; }} to {{ --more-below: transparent; }} }}
.dvn-scroller {{
  box-shadow: inset -0.8rem 0 0.6rem -0.6rem var(--more-right), inset 0 -0.8rem 0.6rem -0.6rem var(--more-below);
  animation: more-right linear both, more-below linear both; animation-timeline: scroll(self x), scroll(self y);
}}
@media (forced-colors: active) {{
  [data-testid="stButtonGroup"] button[data-selected="true"] {{
    forced-color-adjust: none; background: Highlight !important;
  }}
  [data-testid="stButtonGroup"] button[data-selected="true"] * {{ color: HighlightText !important; }}
  [role="tab"][data-selected="true"] {{ border-bottom: 3px solid Highlight !important; }}
  [data-testid="stCheckbox"] label > div:has(> div:empty) {{ border: 1px solid ButtonText !important; }}
  [data-testid="stCheckbox"] label > div > div:empty {{ border: 0.5rem solid ButtonText !important; }}
}}
.brush_brush {{ pointer-events: none; }} /* a chart's brush: the pointer reaches the bucket below, with its tooltip */
button[kind="primary"]:not(:disabled), [data-tag] span, [data-tag] button {{ color: {on_primary} !important; }}
button[kind="tertiary"]:not(:disabled):is(:hover, :active, [aria-expanded="true"]) {{ color: {blue} !important; }}
[class*="st-key-events-"], [class*="st-key-behind-"], [class*="st-key-findings-"], [class*="st-key-plain-"] {{
  margin-top: 2rem;
}}
[class*="st-key-sign_open"] button {{ justify-content: flex-start; text-align: left; }}
.st-key-header {{ gap: 0.3rem 0.5rem; }}
.st-key-header > * {{ flex-shrink: 0; }}
.st-key-header > :is(.st-key-organization, .st-key-timezone) {{ flex-shrink: 1; min-width: 4.5rem; }}
.st-key-header [data-testid="stSelectbox"] {{ width: 100% !important; }}
.st-key-header a {{ padding-left: 0.45rem; padding-right: 0.45rem; }}
[data-testid="stPageLink-NavLink"]:focus-visible {{ outline: 2px solid {blue}; outline-offset: -2px; }}
:is(.st-key-loaded, .st-key-no_events) [data-testid="stPageLink-NavLink"] {{
  min-height: 2.5rem; padding: 0.25rem 0.75rem; border: 1px solid {border};
  border-radius: 0.25rem; outline-offset: 2px; }}
:is(.st-key-loaded, .st-key-no_events) > :first-child [data-testid="stPageLink-NavLink"] {{
  background: {primary}; border-color: {primary}; }}
:is(.st-key-loaded, .st-key-no_events) > :first-child [data-testid="stPageLink-NavLink"]:hover {{ opacity: 0.9; }}
:is(.st-key-loaded, .st-key-no_events) > :first-child [data-testid="stPageLink-NavLink"] :is(span, p) {{
  color: {on_primary}; }}
.st-key-header button[data-testid="stPopoverButton"] {{ padding-left: 0.6rem; padding-right: 0.6rem; }}
.st-key-header button[data-testid="stPopoverButton"] > div > [aria-hidden] {{ display: none; }}
.st-key-account button p {{ font-size: 0; }}
@media (min-width: 1024px) {{
  .st-key-header {{ flex-wrap: nowrap; }}
  .st-key-header > :has(> [data-testid="stSpace"]) {{ flex: 1 1 0; width: auto; min-width: 0; }}
}}
@media (max-width: 1279px) {{
  .st-key-header > :first-child a {{ gap: 0; min-height: 1.87rem; }}
  .st-key-header > :first-child p, .st-key-search button p, .st-key-views button p {{ font-size: 0; }}
}}
@media (max-width: 1023px) {{
  .st-key-filters > :first-child {{ flex: 1 1 100%; }}
  .st-key-header > :is(.st-key-account, :has(> .st-key-demo)) {{ order: 1; }}
  .st-key-header > :has(> [data-testid="stSpace"]) {{ order: 2; flex: 0 0 100%; height: 0; }}
  .st-key-header > :is(.st-key-search, .st-key-views) {{ order: 3; }}
  .st-key-header > :is(.st-key-organization, .st-key-timezone) {{ order: 4; flex: 1 1 5rem; max-width: 15rem; }}
  .st-key-header > :is(.st-key-share, :has(> .st-key-known)) {{ order: 5; }}
}}
.st-key-filters {{ align-items: flex-start; }}
.st-key-filters .st-key-cumulative {{ min-height: 2.5rem; display: flex; align-items: center; }}
:is(.st-key-headline, .st-key-costs_by_currency) {{ row-gap: 0.25rem; }}
[class*="st-key-file-"] {{ padding: 0 0.25rem 0 0.75rem; min-height: 2.5rem; flex-wrap: nowrap; max-width: 100%; }}
[class*="st-key-file-"] > :first-child {{ min-width: 0; flex: 0 1 auto; }}
[class*="st-key-file-"] p {{ font-size: 0.875rem; overflow-wrap: anywhere; }}
[class*="st-key-file-"] button {{ padding-left: 0.35rem; padding-right: 0.35rem; }}
[class*="st-key-file-"] button p {{ font-size: 0; }}
[class*="st-key-file-"] button[data-testid="stPopoverButton"] > div > [aria-hidden] {{ display: none; }}
@media (max-width: 480px) {{
  .st-key-show_controls {{ display: block; }}
  [class*="st-key-hit_row"] a p {{ font-size: 0; }}
  :has(.st-key-show_controls):not(:has(.st-key-show_controls input:checked))
    :is(
      [data-testid="stLayoutWrapper"]:has(> :is(.st-key-controls, .st-key-exact_range, .st-key-compared_range)),
      .st-key-compare, .st-key-cumulative, .st-key-chart_kind
    ) {{ display: none; }}
  :is(.st-key-headline, .st-key-costs_by_currency) {{ gap: 0 1rem; }}
  .st-key-headline h3 {{ padding: 0.15rem 0; font-size: 1.25rem; }}
  :is(.st-key-window, .st-key-exact_range, .st-key-compared_range) {{ flex-wrap: nowrap; gap: 0.5rem; }}
  :is(.st-key-window, .st-key-exact_range, .st-key-compared_range) > * {{ flex: 1 1 0; min-width: 0; }}
  :is(.st-key-window, .st-key-exact_range, .st-key-compared_range) [data-testid="stDateTimeInput"] {{ width: 100%; }}
  [data-testid="stDateTimeInput"] span {{ font-size: 0.8rem; padding-left: 0.5px; padding-right: 0.5px; }}
  [data-testid="stDateTimeInput"] button {{ padding-left: 1px; padding-right: 1px; }}
  .st-key-pager {{ gap: 0.25rem; }}
  .st-key-pager button {{ padding-left: 0.4rem; padding-right: 0.5rem; }}
  .st-key-pager .st-key-limit, .st-key-limit [data-testid="stSelectbox"] {{ width: 6.8rem !important; }}
  .st-key-header {{ gap: 0.2rem 0.25rem; }}
  .st-key-header a {{ padding-left: 0.3rem; padding-right: 0.3rem; }}
  .st-key-header > :not(:first-child) a p {{ font-size: 0.85rem; }}
  .st-key-demo span {{ font-size: 0.75rem !important; }}
  :is(.st-key-share, .st-key-close_finding_heading) button p {{ font-size: 0; }}
  .st-key-close_finding_heading {{ flex-wrap: nowrap; }}
  .st-key-close_finding_heading > :first-child {{ flex: 0 1 auto; min-width: 0; }}
  .st-key-header :is([data-testid="stSelectbox"] input, .st-key-known p) {{ font-size: 0.85rem; }}
  .st-key-header [data-testid="stSelectbox"] input {{ padding-left: 0.4rem; padding-right: 0; }}
  .st-key-header [data-testid="stSelectbox"] button {{ padding-left: 0; padding-right: 0.1rem; }}
  .st-key-header [data-testid="stSelectbox"] input {{ text-overflow: ellipsis; }}
  .st-key-header > .st-key-organization {{ flex-grow: 2; }}
  /* beside the links, where no customer's is among them: the pickers need its room; at its right is the menu */
  .st-key-header:not(:has(a[href*="customer"])) > :has(> .st-key-known) {{ order: 1; }}
  .st-key-header:not(:has(a[href*="customer"])) .st-key-known {{ padding: 0 1.4rem 0 0.25rem; }}
  .st-key-period {{ gap: 0.5rem; }}
  .st-key-period > :has(> [data-testid="stDateTimeInput"]) {{ flex: 1 1 40%; min-width: 0; }}
  .st-key-period [data-testid="stDateTimeInput"] {{ width: 100%; }}
  .st-key-period > :is([class*="period_calendar"], :has(> [data-testid="stSelectbox"])) {{ flex: 1 1 100%; }}
  .st-key-known label {{ display: none; }}
}}
[class*="st-key-hit_row"] {{ flex-wrap: nowrap; }}
[class*="st-key-hit_row"] > :first-child {{ min-width: 0; flex: 0 1 auto; }}
:is(.st-key-hits, .st-key-home, .st-key-event_links) [data-testid="stPageLink-NavLink"] {{ padding-left: 0; }}
.st-key-around button {{ min-height: 1.75rem; padding-top: 0; padding-bottom: 0; }}
[class*="st-key-hit_row"] > :not(:first-child) {{ flex: none; margin-left: auto; }}
.st-key-beside_finding > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {{ flex-wrap: nowrap; }}
.st-key-beside_finding > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] > :first-child {{
  flex: 0 0 592px; }}
.st-key-beside_finding > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] > :last-child {{
  flex: 1 1 0; min-width: 0; }}
@media (max-width: 1199px) {{
  .st-key-beside_finding > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {{
    flex-direction: column-reverse; }}
  .st-key-beside_finding > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] > * {{
    flex: none !important; width: 100% !important; min-width: 0; }}
}}
.st-key-filter_panes {{ flex-wrap: nowrap; }}
@media (max-width: 640px) {{
  .st-key-filter_panes:has(.st-key-filter_field) > :has(> .st-key-filter_fields) {{ display: none; }}
}}
@media (min-width: 641px) {{ .st-key-filter_back {{ display: none; }} }}
.st-key-event_ids [data-testid="stCode"] {{ width: 10.5rem; }}
.st-key-event_ids pre {{ padding: 0.4rem 0.6rem; }}
.st-key-event_ids code {{ display: block; max-width: 11.25ch; overflow: hidden; text-overflow: ellipsis; }}
[data-testid="stCode"] > div, [data-testid="stCode"] > div > div, [data-testid="stCode"] button {{
  opacity: 1; visibility: visible;
}}
.st-key-event_ids [data-testid="stCode"] > div, .st-key-event_ids [data-testid="stCode"] > div > div {{
  padding-top: 0;
}}
pre .token {{ color: {gray} !important; }}
pre .token:is(.keyword, .function, .property, .tag, .variable) {{ color: {blue} !important; }}
pre .token:is(.string, .char, .url, .attr-value) {{ color: {green} !important; }}
pre .token:is(.number, .boolean, .operator, .null, .builtin) {{ color: {orange} !important; }}
</style>"""
_LIGHT = {
    "primary": "#0b5cad",
    "on_primary": "#ffffff",
    "gray": "#5f6675",
    "blue": "#0b5cad",
    "green": "#0a7040",
    "orange": "#9a4a00",
    "border": "#d5dbe1",
    "shadow": "#12161f33",
}
_DARK = {
    "primary": "#5aa9f0",
    "on_primary": "#0e1117",
    "gray": "#a3aab8",
    "blue": "#7cbcf5",
    "green": "#4cc38a",
    "orange": "#f2994a",
    "border": "#343b49",
    "shadow": "#eceef233",
}


def run(first: str = "explore") -> None:
    """Draw the page of the URL's path; `first` is the page at `/`."""
    st.set_page_config(page_title="usage-explore", page_icon=_ICON, layout="wide")
    st.html(_STYLE.format(**(_DARK if st.context.theme.type == "dark" else _LIGHT)))

    def explore_page() -> None:
        with shown():
            if sign_in.admitted() and demo_fill.ready(pages.load):
                explore.draw(pages)

    def events_page() -> None:
        with shown():
            if sign_in.admitted() and demo_fill.ready(pages.load):
                events.draw(pages)

    def validate_page() -> None:
        with shown():
            if sign_in.admitted() and demo_fill.ready(pages.load):
                validate.draw(pages)

    def customer_page() -> None:
        with shown():
            if sign_in.admitted() and demo_fill.ready(pages.load):
                customer.draw(pages)

    def load_page() -> None:
        with shown():
            if sign_in.admitted() and demo_fill.ready(None):
                load.draw(pages)

    def home_page() -> None:
        with shown():
            if sign_in.admitted() and demo_fill.ready(pages.load):
                home.draw(pages)

    def link_page() -> None:
        with shown():
            if sign_in.admitted():
                open_link.draw(pages.home)

    drawn = {
        "explore": explore_page,
        "events": events_page,
        "validate": validate_page,
        "customer": customer_page,
        "load": load_page,
        "home": home_page,
    }
    pages = Pages(
        **{
            name: st.Page(page, title=name.capitalize(), url_path="" if name == first else name, default=name == first)
            for name, page in drawn.items()
        }
    )
    # the page at / has no path of its own: without this one, its name in a link would be "Page not found"
    by_name = st.Page(drawn[first], title=first.capitalize(), url_path=first)
    opened = st.Page(link_page, title="Open", url_path=OPEN_PAGE)
    current = st.navigation([*pages, by_name, opened], position="hidden")
    components.watch_room()  # after the navigation: a run that it asks for names the page that the browser knows then
    grid.copy_values()
    components.keep_focus()
    components.announce()
    components.one_press()
    if current.url_path == first:
        pages = pages._replace(**{first: by_name})
    with metrics.counted_run(current.url_path or first):
        current.run()


if __name__ == "__main__":
    run()
