"""Style sheet and script of the page, kept as text so that the package needs no data file."""

CSS = """\
.gradio-container { max-width: 1500px !important; margin: 0 auto; }
footer { display: none !important; }
.rc-head h1 { font-size: 1.35rem; line-height: 1.2; margin: 0; color: var(--body-text-color); }
.rc-head p { margin: 4px 0 0; color: var(--body-text-color-subdued); font-size: 0.95rem; }
.rc-head a { color: var(--link-text-color); }
.rc-board, .rc-pictures { color: var(--body-text-color); font-size: 0.9rem; }
.rc-pictures { display: grid; gap: 10px; }
.rc-cards {
  display: grid; gap: 12px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(190px, calc(50% - 6px)), 1fr));
}
.rc-cards.rc-wide { grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); }
.rc-card {
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
  border-radius: 10px; padding: 10px; min-width: 0; max-width: 420px;
}
.rc-card h3 {
  margin: 0; font-size: 0.98rem; font-weight: 600; color: var(--body-text-color);
  overflow-wrap: anywhere;
}
.rc-card header span {
  color: var(--body-text-color-subdued); font-size: 0.8rem; font-variant-numeric: tabular-nums;
}
.rc-line {
  display: grid; gap: 8px; margin-top: 8px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(60px, 1fr));
}
.rc-figure { margin: 0; min-width: 0; }
.rc-figure figcaption {
  color: var(--body-text-color-subdued); font-size: 0.8rem; line-height: 1.3; margin-top: 3px;
  overflow-wrap: anywhere;
}
.rc-panel {
  position: relative; overflow: hidden; border-radius: 6px; cursor: crosshair;
  background: var(--border-color-primary); touch-action: manipulation;
}
.rc-panel:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
.rc-panel img {
  display: block; width: 100%; height: 100%; image-rendering: pixelated; user-select: none;
  margin: 0; max-width: none;
}
.rc-pictures .rc-panel img, .rc-smooth img { image-rendering: auto; }
.rc-cards.rc-wide .rc-card { max-width: 640px; }
.rc-mark, .rc-hover { position: absolute; box-sizing: border-box; pointer-events: none; }
.rc-mark { outline: 2px solid #fff; box-shadow: 0 0 0 3.5px #000; z-index: 2; }
.rc-hover { outline: 1.5px solid #ffffffe6; box-shadow: 0 0 0 2.5px #00000080; }
.rc-mark[hidden], .rc-hover[hidden] { display: none; }
.rc-message {
  border-left: 4px solid #b45309; padding: 2px 0 2px 10px; margin: 4px 0; overflow-wrap: anywhere;
}
.rc-hint { padding: 24px 4px; color: var(--body-text-color-subdued); font-size: 1rem; }
.rc-legend {
  display: flex; flex-wrap: wrap; align-items: center; gap: 4px 10px; margin: 0 0 10px;
  color: var(--body-text-color-subdued); font-size: 0.85rem;
}
.rc-bar { display: inline-block; width: 130px; height: 10px; border-radius: 3px; }
.rc-chip { display: inline-flex; align-items: center; gap: 5px; color: var(--body-text-color); }
.rc-chip i {
  width: 12px; height: 12px; border-radius: 3px; border: 1px solid var(--border-color-primary);
}
#samples .grid-container { gap: 6px; grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
@media (max-width: 640px) {
  .rc-pictures .rc-panel { max-height: 45vh; margin: 0 auto; }
  #samples { height: 96px !important; }
}
"""

# Clicks are measured on the panel itself, so no size of a window or zoom shifts them. Marks move at
# once; the maps follow when the server has answered.
SCRIPT = """\
const panelOf = (event) => event.target.closest('.rc-panel');
const cell = (panel, x, y) => {
  const rows = +panel.dataset.rows, columns = +panel.dataset.columns;
  return [Math.min(Math.floor(y * rows), rows - 1), Math.min(Math.floor(x * columns), columns - 1)];
};
const put = (span, panel, x, y) => {
  const rows = +panel.dataset.rows, columns = +panel.dataset.columns;
  const [row, column] = cell(panel, x, y);
  span.style.cssText = `left:${100 * column / columns}%;top:${100 * row / rows}%;` +
    `width:${100 / columns}%;height:${100 / rows}%`;
};
const show = (kind, image, x, y) => document.querySelectorAll('.rc-panel').forEach((panel) => {
  const span = panel.querySelector(kind);
  span.hidden = panel.dataset.image !== image;
  if (!span.hidden) put(span, panel, x, y);
});
const inside = (value) => Math.min(Math.max(value, 0), 1);
const place = (panel, event) => {
  const box = panel.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  return [inside(x), inside(y)];
};
const pick = (panel, x, y) => {
  show('.rc-mark', panel.dataset.image, x, y);
  trigger('pick', {x: x, y: y, image: +panel.dataset.image});
};
element.addEventListener('click', (event) => {
  const panel = panelOf(event);
  if (panel) pick(panel, ...place(panel, event));
});
element.addEventListener('mousemove', (event) => {
  const panel = panelOf(event);
  if (panel) show('.rc-hover', panel.dataset.image, ...place(panel, event));
});
element.addEventListener('mouseleave', () => show('.rc-hover', '', 0, 0));
const STEPS = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};
element.addEventListener('keydown', (event) => {
  const panel = panelOf(event), step = STEPS[event.key];
  if (!panel || !step) return;
  event.preventDefault();
  const mark = panel.querySelector('.rc-mark');
  const rows = +panel.dataset.rows, columns = +panel.dataset.columns;
  const share = (text) => (mark.hidden ? 0.5 : parseFloat(text) / 100);
  pick(
    panel,
    inside(share(mark.style.left) + (0.5 + step[1]) / columns),
    inside(share(mark.style.top) + (0.5 + step[0]) / rows),
  );
});
"""

# The address follows the view, so that it can be copied; the theme that was asked for stays.
ADDRESS = """\
(query) => {
  const theme = new URLSearchParams(window.location.search).get('__theme');
  const parts = [query, theme ? `__theme=${theme}` : ''].filter(Boolean).join('&');
  history.replaceState(null, '', window.location.pathname + (parts ? `?${parts}` : ''));
}
"""

SAVE = """\
(file) => {
  if (!file) return;
  const [name, uri] = file.split('|');
  const link = document.createElement('a');
  link.href = uri;
  link.download = name;
  link.click();
}
"""
