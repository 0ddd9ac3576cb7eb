def test_settings_are_shown_without_what_agents_are_given(home: Path, tmp_path: Path) -> None:
    app = make_app(home, tmp_path, agents={"mine": {"command": ["x"], "env": {"A_KEY": "sk-secret"}}})
    found, _ = app.registry.find(["settings"], "repl")
    result = found.run(app, found.parse([]))
    app.close()

    assert result.data["agents"] == "mine"
    assert "sk-secret" not in str(result)
