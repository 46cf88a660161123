"""The page's theme, styles and scripts, all from our own files. Plain functions; any thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

STATIC = Path(__file__).parent / "static"
SCRIPTS = (
    "connection.js", "picture.js", "timeline.js", "webcam.js", "drawing.js", "regions.js", "grid.js", "alerts.js",
    "rule_curve.js", "rule_editor.js", "rules.js", "voice.js", "page.js",
)  # fmt: skip
"""In the order in which they depend on each other."""
OUTER = "@media (max-width: 768px) { .gradio-container > .main.app { padding: 8px !important; } }"
"""Styles of Gradio's container around the page, which its `css` argument does not reach."""
TITLE = "Streaming video assistant"


def static_text(name: str) -> str:
    """The text of a file in `static/`."""
    return (STATIC / name).read_text(encoding="utf-8")


def looks() -> dict[str, Any]:
    """Arguments of Gradio's `launch`: theme, css, head and what the footer shows."""
    scripts = "\n".join(static_text(name) for name in SCRIPTS)
    meta = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return {
        "theme": _theme(),
        "css": static_text("page.css"),
        "head": f"{meta}\n<style>{OUTER}</style>\n<script>\n{scripts}\n</script>",
        "footer_links": ["settings"],
    }


def opening() -> str:
    """HTML at the start of the head of every page, including the login page."""
    styles, script = static_text("opening.css"), static_text("quiet.js") + static_text("refusal.js")
    return f"<title>{TITLE}</title>\n<style>\n{styles}</style>\n<script>\n{script}</script>\n"


def _theme() -> Any:
    import gradio as gr

    fonts = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.sky,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_sm,
        text_size=gr.themes.sizes.text_sm,
        font=fonts,
        font_mono=mono,
    )
    return theme.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        body_background_fill="*neutral_100",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_shadow="0 1px 2px 0 rgb(15 23 42 / 0.05)",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_weight="600",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        button_large_text_size="*text_md",
        button_large_padding="*spacing_md *spacing_lg",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
    )
