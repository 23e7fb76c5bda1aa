"""Presses the buttons of the local cloud's console, as a reader of a page does in a browser."""

import re
import urllib.parse
import urllib.request

_FORM = re.compile(r'<form method="post" action="(/console/clock)">(.*?)</form>', re.DOTALL)
_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
_BUTTON = re.compile(r'<button name="(\w+)" value="([^"]*)">([^<]+)</button>')


def press(url: str, label: str) -> None:
    """Press a button of the clock.

    Parameters:
        url: the console's first page.
        label: text of the button.

    Raises:
        AssertionError: there is no such button.
    """
    web = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    page = web.open(urllib.request.Request(url, headers={"Accept": "text/html"}), timeout=10).read().decode()
    form = _FORM.search(page)
    assert form, f"{url} has no clock:\n{page}"
    buttons = {text: (name, value) for name, value, text in _BUTTON.findall(form[2])}
    assert label in buttons, f"There is no button {label!r}, but {sorted(buttons)}"
    fields = urllib.parse.urlencode([*_HIDDEN.findall(form[2]), buttons[label]]).encode()
    target = urllib.parse.urljoin(url, form[1])
    web.open(urllib.request.Request(target, fields, {"Origin": url.rstrip("/")}), timeout=30).read()
