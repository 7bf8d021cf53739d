"""The server of the page: this machine alone, bounded, without a word to anybody else."""

from __future__ import annotations

import gradio as gr
from starlette.middleware import Middleware

from .page import Page
from .pictures import MAX_BYTES
from .policy import OwnHostOnly
from .style import CSS


def theme() -> gr.themes.Base:
    """Fonts of the reader's own system, so that none is asked for."""
    fonts = ['system-ui', 'Segoe UI', 'Roboto', 'DejaVu Sans', 'sans-serif']
    return gr.themes.Default(
        primary_hue='blue',
        neutral_hue='slate',
        spacing_size='sm',
        font=[gr.themes.Font(name) for name in fonts],
        font_mono=[gr.themes.Font('ui-monospace'), gr.themes.Font('monospace')],
    )


def launch(page: Page, host: str, port: int, browser: bool) -> tuple[gr.Blocks, str]:
    """Serve a page from a thread.

    Args:
        page: The page.
        host: Address to listen at.
        port: Its port.
        browser: Open it.

    Returns:
        What closes it, and its address.

    Raises:
        OSError: If the port is taken.
    """
    blocks = page.build()
    _, url, _ = blocks.launch(
        server_name=host,
        server_port=port,
        inbrowser=browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=True,
        max_file_size=MAX_BYTES,
        state_session_capacity=64,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        footer_links=[],
        run_history=False,
        app_kwargs={
            'middleware': [Middleware(OwnHostOnly)],
            'docs_url': None,
            'redoc_url': None,
            'openapi_url': None,
        },
        theme=theme(),
        css=CSS,
    )
    return blocks, url
