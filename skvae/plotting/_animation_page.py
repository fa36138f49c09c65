"""The web page of the ELBO animation: its frames, a slider and a button."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from string import Template
from typing import Any

import numpy as np

#: Colours of a picture, at most: few make a small file.
N_COLORS = 64

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>The evidence lower bound</title>
<style>
  body { font: 15px sans-serif; max-width: 660px; margin: 1em auto; }
  img { width: 100%; }
  div { display: flex; gap: 0.7em; align-items: center; }
  input { flex: 1; }
  output { min-width: 3em; text-align: right; }
</style>
<img id="picture" alt="Above the ELBO by iteration, below the densities p and q">
<div>
  <button id="play">Play</button>
  <input id="slider" type="range" min="0" max="$last" value="0" aria-label="iteration">
  <output id="number">0</output>
</div>
<script>
  const frames = $frames;
  const get = (id) => document.getElementById(id);
  const slider = get("slider"), play = get("play");
  let timer = null;
  function show() {
    get("picture").src = "data:image/png;base64," + frames[slider.value];
    get("number").value = slider.value;
  }
  function stop() { clearInterval(timer); timer = null; play.textContent = "Play"; }
  function step() {
    if (+slider.value >= +slider.max) { stop(); return; }
    slider.value = +slider.value + 1;
    show();
  }
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => {
    if (timer) { stop(); return; }
    if (+slider.value >= +slider.max) slider.value = 0;
    play.textContent = "Pause";
    timer = setInterval(step, $milliseconds);
  });
  show();
</script>
</html>
"""


def animation_page(
    figure: Any, show: Callable[[int], Any], n_frames: int, milliseconds: float
) -> str:
    """Return a web page that holds all frames of a figure with a canvas of Agg.

    ``show`` puts the frame of a given number into the figure.
    """
    from PIL import Image

    frames = []
    for frame in range(n_frames):
        show(frame)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        file = io.BytesIO()
        Image.fromarray(pixels).quantize(N_COLORS).save(file, "png", optimize=True)
        frames.append(base64.b64encode(file.getvalue()).decode("ascii"))
    return Template(PAGE).substitute(
        frames=json.dumps(frames), last=n_frames - 1, milliseconds=milliseconds
    )
