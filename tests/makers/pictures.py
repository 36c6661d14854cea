"""What a picture writes, and whether anything lies on anything else."""


def texts_of(figure):
    """Return what a figure writes, and where: labels, titles and legends, without the numbers at the axes."""
    figure.draw_without_rendering()
    written = [text for axes in figure.axes for text in [*axes.texts, axes._left_title, axes.xaxis.label]]
    written += figure.texts  # the title, and what is below all panels
    written += [text for legend in figure.legends for text in legend.get_texts()]
    return [(text.get_text(), text.get_window_extent()) for text in written if text.get_text()]


def assert_apart(figure):
    texts = texts_of(figure)
    assert len(texts) >= 6
    for at, (one, place) in enumerate(texts):
        assert [other for other, taken in texts[:at] if place.overlaps(taken)] == [], one
        assert (place.x0 >= 0, place.x1 <= figure.bbox.x1, place.y0 >= 0, place.y1 <= figure.bbox.y1) == (True,) * 4, (
            one
        )
