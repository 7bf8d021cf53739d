"""Style sheet of a report, kept as text so that the package needs no data file for it."""

STYLE = """\
:root {
  --ink: #1a1a1a; --soft: #595959; --line: #d8d8d8; --ground: #ffffff; --band: #f5f6f8;
  --link: #0058a3; --mark: #b45309;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e8e8; --soft: #b0b0b0; --line: #3d4046; --ground: #17191c; --band: #212429;
    --link: #7cc0ff; --mark: #fbbf24;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 16px; }
h2 {
  font-size: 1.25rem; line-height: 1.3; margin: 40px 0 12px; padding-top: 12px;
  border-top: 1px solid var(--line);
}
p { max-width: 75ch; margin: 0 0 12px; overflow-wrap: anywhere; }
p.strong { border-left: 4px solid var(--mark); padding: 4px 0 4px 12px; font-weight: 600; }
a { color: var(--link); }
nav ol {
  margin: 0; padding: 12px 12px 12px 36px; background: var(--band); border-radius: 8px;
  columns: 2 20em;
}
.scroll { overflow-x: auto; margin: 16px 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.94rem; }
caption { text-align: left; color: var(--soft); padding-bottom: 8px; caption-side: top; }
th, td { padding: 6px 12px; border-bottom: 1px solid var(--line); vertical-align: top; }
th { border-bottom: 2px solid var(--soft); white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--band); }
.left { text-align: left; } .center { text-align: center; }
.right { text-align: right; white-space: nowrap; }
figure { margin: 20px 0; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
figcaption { color: var(--soft); font-size: 0.92rem; max-width: 85ch; margin-top: 8px; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--link); padding: 4px 0; }
@media (max-width: 640px) {
  main { padding: 16px 12px 40px; }
  h1 { font-size: 1.4rem; }
  th, td { padding: 5px 8px; }
}
@media print {
  nav { display: none; }
  details::details-content { content-visibility: visible; }
  section { break-inside: avoid-page; }
}
"""
