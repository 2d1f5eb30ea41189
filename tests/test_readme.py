"""README's example runs as it stands."""

import re

from notebook_checks import ROOT


def test_the_example_on_a_readers_own_reviews_runs(monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(ROOT)
    exec(blocks[0], {})
    assert capsys.readouterr().out.count("\n") == 7  # two header lines and five rounds
