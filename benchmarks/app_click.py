"""Milliseconds from a click on the page to the new maps, in a headless Chromium on this machine.

``python -m benchmarks.app_click [options of python -m refineclip app]``. Needs gradio, selenium,
chromium and chromedriver. The image is encoded before, so this is the time of every click but the
first.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys

from refineclip.commands.app.command import build_page, free_port, make_parser
from refineclip.commands.evaluate.common import quiet_logging

CLICKS, WARM = 40, 5
# From the event to the first frame in which a map has changed.
CLICK = """
const [x, y, done] = arguments;
const source = () => document.querySelector('#look .rc-panel img')?.src;
const panel = document.querySelector('#pictures .rc-panel');
const box = panel.getBoundingClientRect(), before = source(), started = performance.now();
const look = () => {
  if (source() && source() !== before) done(performance.now() - started);
  else requestAnimationFrame(look);
};
panel.dispatchEvent(new MouseEvent('click', {
  bubbles: true, clientX: box.left + x * box.width, clientY: box.top + y * box.height,
}));
look();
"""


def main() -> None:
    """Measure and print."""
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    quiet_logging()
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    from refineclip.commands.app.server import launch

    page = build_page(make_parser().parse_args(sys.argv[1:]))
    blocks, url = launch(page, '127.0.0.1', free_port('127.0.0.1', 0), browser=False)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium') or ''
    for argument in ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which('chromedriver')))
    driver.get(url)
    WebDriverWait(driver, 60).until(
        lambda one: one.find_elements(By.CSS_SELECTOR, '#look .rc-panel')
    )
    times = [
        driver.execute_async_script(CLICK, (0.37 * index) % 1, (0.53 * index) % 1)
        for index in range(1, WARM + CLICKS + 1)
    ][WARM:]
    driver.quit()
    blocks.close(verbose=False)
    print(
        f'{CLICKS} clicks, {os.cpu_count()} cores: median {statistics.median(times):.0f} ms, '
        f'least {min(times):.0f}, most {max(times):.0f}'
    )


if __name__ == '__main__':
    main()
