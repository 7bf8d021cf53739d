"""The page in a headless Chromium, with every other host unreachable."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from PIL import Image

from refineclip.commands.app.command import free_port
from refineclip.datasets.microworld import Microworld
from tests.test_commands.test_app.toys import rows_page

pytest.importorskip('gradio', reason='needs gradio, of the extra [app]')
pytest.importorskip('selenium', reason='needs selenium, of requirements/tests.txt')

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

BROWSER = shutil.which('chromium') or shutil.which('chromium-browser')
DRIVER = shutil.which('chromedriver')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None,
        reason='needs a browser: apt-get install chromium chromium-driver',
    ),
]
SECONDS = 60  # a busy machine is no failure
WIDE, NARROW = (1280, 900), (400, 800)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('photos')
    for index in range(2):
        Image.fromarray(Microworld('val')[index].image).save(path / f'{index}.png')
    return path


@pytest.fixture(scope='module')
def address(folder: Path) -> Iterator[str]:
    from refineclip.commands.app.server import launch

    page = rows_page(folder)
    blocks, url = launch(page, '127.0.0.1', free_port('127.0.0.1', 0), browser=False)
    yield url
    blocks.close(verbose=False)


@pytest.fixture(scope='module')
def started() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ''
    for argument in (
        *('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'),
        *('--disable-background-networking', '--disable-component-update'),
        '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
    ):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL'})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def driver(started: WebDriver, address: str) -> WebDriver:
    resize(started, WIDE)
    visit(started, address)
    return started


def resize(driver: WebDriver, size: tuple[int, int]) -> None:
    metrics = dict(width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)


def visit(driver: WebDriver, url: str) -> None:
    driver.get(url)
    until(lambda: all_of(driver, '#look .rc-panel'))


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives as soon as it is true."""
    from selenium.common.exceptions import StaleElementReferenceException

    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except StaleElementReferenceException:  # drawn anew meanwhile
            pass
        time.sleep(0.05)
    raise AssertionError('the page did not come to what was waited for')


def all_of(driver: WebDriver, css: str) -> list[WebElement]:
    return driver.find_elements(By.CSS_SELECTOR, css)


def tab(driver: WebDriver, name: str) -> None:
    buttons = all_of(driver, 'button[role=tab]')
    next(one for one in buttons if one.text.strip() == name).click()


def upload(driver: WebDriver, path: Path) -> None:
    all_of(driver, 'input[type=file]')[0].send_keys(str(path))


def query(driver: WebDriver) -> dict[str, list[str]]:
    return parse_qs(urlparse(driver.current_url).query)


def toast(driver: WebDriver) -> str:
    return until(lambda: ' '.join(one.text for one in all_of(driver, '.toast-body')))


def add_word(driver: WebDriver, word: str) -> None:
    field = all_of(driver, '#words input')[0]
    field.send_keys(word)
    field.send_keys(Keys.ENTER)
    until(lambda: word in query(driver).get('words', []))


def click_at(driver: WebDriver, panel: WebElement, x: float, y: float) -> None:
    # The driver counts from the middle of what is seen of an element.
    driver.execute_script('arguments[0].scrollIntoView({block: "center"})', panel)
    box = panel.rect
    webdriver.ActionChains(driver).move_to_element_with_offset(
        panel, round((x - 0.5) * box['width']), round((y - 0.5) * box['height'])
    ).click().perform()


def test_no_other_host_is_asked(driver: WebDriver, address: str) -> None:
    tab(driver, 'Words')
    tab(driver, 'Detect')
    messages = [json.loads(line['message'])['message'] for line in driver.get_log('performance')]
    asked = {
        one['params']['request']['url']
        for one in messages
        if one['method'] == 'Network.requestWillBeSent'
    }
    assert len(asked) > 10
    own = (address, 'data:', 'blob:')
    assert sorted(url for url in asked if not url.startswith(own)) == []
    with urllib.request.urlopen(address) as answer:
        assert "default-src 'self'" in answer.headers['Content-Security-Policy']
        assert 'preconnect' not in answer.read().decode()


@pytest.mark.parametrize('size', [WIDE, NARROW])
def test_click_is_where_the_mouse_is(driver: WebDriver, size: tuple[int, int]) -> None:
    resize(driver, size)
    panel = all_of(driver, '#pictures .rc-panel')[0]
    click_at(driver, panel, 0.8, 0.3)
    until(lambda: 'point' in query(driver))
    x, y = map(float, query(driver)['point'][0].split(','))
    assert (x, y) == pytest.approx((0.8, 0.3), abs=0.01)
    marks = until(lambda: all_of(driver, '#look .rc-mark'))
    assert len(marks) == 4  # two rows, two panels each
    assert {one.get_attribute('style').replace(' ', '') for one in marks} == {
        'left:75%;top:25%;width:12.5%;height:12.5%;'
    }
    # In a map as in the image; the last answer is what is shown.
    click_at(driver, until(lambda: all_of(driver, '#look .rc-panel'))[1], 0.1, 0.9)
    until(lambda: not query(driver)['point'][0].startswith(('0.79', '0.8')))
    x, y = map(float, query(driver)['point'][0].split(','))
    assert (x, y) == pytest.approx((0.1, 0.9), abs=0.01)
    panel = all_of(driver, '#pictures .rc-panel')[0]
    panel.send_keys(Keys.ARROW_UP)
    until(lambda: query(driver)['point'] == ['0.0625,0.8125'])


def test_upload(driver: WebDriver, tmp_path: Path) -> None:
    Image.new('RGB', (128, 64), (200, 30, 30)).save(tmp_path / 'wide <b>.png')
    before = all_of(driver, '#look .rc-panel img')[0].get_attribute('src')
    upload(driver, tmp_path / 'wide <b>.png')
    until(lambda: all_of(driver, '#look .rc-panel img')[0].get_attribute('src') != before)
    panel = all_of(driver, '#pictures .rc-panel')[0]
    assert (panel.get_attribute('data-rows'), panel.get_attribute('data-columns')) == ('4', '8')
    assert panel.rect['width'] == pytest.approx(2 * panel.rect['height'], rel=0.02)
    assert all_of(driver, '#pictures figcaption b') == []


def test_files_that_are_refused(driver: WebDriver, tmp_path: Path) -> None:
    before = all_of(driver, '#pictures .rc-panel img')[0].get_attribute('src')
    (tmp_path / 'page.png').write_text('<html>')
    upload(driver, tmp_path / 'page.png')
    until(lambda: 'page.png: no image that can be read' in toast(driver))
    Image.new('1', (8000, 6000)).save(tmp_path / 'vast.png')
    upload(driver, tmp_path / 'vast.png')
    until(lambda: 'vast.png: 8000 x 6000 px, more than 40 million pixels' in toast(driver))
    (tmp_path / 'heavy.png').write_bytes(bytes(21 * 2**20))
    upload(driver, tmp_path / 'heavy.png')
    until(lambda: 'maximum allowed size' in toast(driver))
    Image.new('RGB', (1, 1)).save(tmp_path / 'dot.png')
    upload(driver, tmp_path / 'dot.png')
    until(lambda: 'dot.png: 1 x 1 px, smaller than 8 px' in toast(driver))
    assert all_of(driver, '#pictures .rc-panel img')[0].get_attribute('src') == before


def test_words_and_their_link(driver: WebDriver) -> None:
    tab(driver, 'Words')
    assert 'Write words above' in all_of(driver, '#named')[0].text
    add_word(driver, 'fish')
    add_word(driver, 'sand;грунт')
    until(lambda: len(all_of(driver, '#named .rc-panel')) == 2 * (1 + 2))
    assert [one.text for one in all_of(driver, '#named .rc-chip')] == ['fish', 'sand']
    link = driver.current_url
    visit(driver, link)
    tab(driver, 'Words')
    until(lambda: len(all_of(driver, '#named .rc-panel')) == 6)
    assert query(driver)['words'] == ['fish', 'sand;грунт']


def test_two_sessions_do_not_see_each_other(driver: WebDriver, address: str) -> None:
    first = driver.current_window_handle
    tab(driver, 'Words')
    add_word(driver, 'boat')
    driver.switch_to.new_window('tab')
    visit(driver, address)
    tab(driver, 'Words')
    assert 'Write words above' in all_of(driver, '#named')[0].text
    add_word(driver, 'tree')
    until(lambda: [one.text for one in all_of(driver, '#named .rc-chip')] == ['tree'])
    field = all_of(driver, '#words input')[0]
    field.click()  # what is offered
    assert 'boat' not in all_of(driver, '#words')[0].text
    driver.close()
    driver.switch_to.window(first)
    add_word(driver, 'car')
    until(lambda: [one.text for one in all_of(driver, '#named .rc-chip')] == ['boat', 'car'])


def test_row_that_does_not_load_and_a_wrong_link(driver: WebDriver, address: str) -> None:
    [message] = all_of(driver, '#look .rc-message')
    assert 'expected a weight file at no/such/file.pth' in message.text
    visit(driver, f'{address}?block=99&rows=frozen&__theme=dark')
    assert 'block: expected a number below 5' in toast(driver)
    assert [one.text for one in all_of(driver, '#look h3')] == ['frozen']


def test_figure_is_saved(driver: WebDriver, tmp_path: Path) -> None:
    behaviour = dict(behavior='allow', downloadPath=str(tmp_path))
    driver.execute_cdp_cmd('Browser.setDownloadBehavior', behaviour)
    next(one for one in all_of(driver, 'button') if one.text == 'Download PCA').click()
    file = tmp_path / 'refineclip_PCA.png'
    until(file.is_file)
    with Image.open(file) as image:
        assert image.format == 'PNG'
        assert min(image.size) > 200
