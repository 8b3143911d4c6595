from train.command.notices import each_once, notice


def test_a_note_is_one_line(capsys):
    notice("two\nlines")
    assert capsys.readouterr().err.count("\n") == 1


def test_runs_on_the_same_data_say_it_once(capsys):
    with each_once():
        for text in ("cut", "cut", "rare", "cut"):
            notice(text)
    notice("cut")
    assert capsys.readouterr().err == "note: cut\nnote: rare\nnote: cut\n"
