"""Every metric convention by id, and the files that some of them need; filled when the room is imported."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from evsim.errors import InputError
from evsim.metrics.brisque import brisque, load_brisque
from evsim.metrics.differences import (
    PsnrConvention,
    lightness_order_error,
    mean_absolute_error,
    mean_squared_error,
    peak_signal_to_noise,
)
from evsim.metrics.metric import METRICS, Inputs, Metric, WeightFile
from evsim.metrics.niqe import load_scene_model, niqe
from evsim.metrics.structural_similarity import (
    SsimConvention,
    multi_scale_similarity,
    structural_similarity,
)

ALEX_TRUNK = WeightFile(
    name="alexnet-owt-7be5be79.pth",
    content="AlexNet trained on ImageNet",
    origin="download.pytorch.org/models (torchvision)",
    licence="BSD-3-Clause",
)
VGG_TRUNK = WeightFile(
    name="vgg16-397923af.pth",
    content="VGG-16 trained on ImageNet",
    origin="download.pytorch.org/models (torchvision)",
    licence="BSD-3-Clause",
)
SQUEEZE_TRUNK = WeightFile(
    name="squeezenet1_1-b8a52dc0.pth",
    content="SqueezeNet 1.1 trained on ImageNet",
    origin="download.pytorch.org/models (torchvision)",
    licence="BSD-3-Clause",
)
ALEX_HEADS, VGG_HEADS, SQUEEZE_HEADS = (
    WeightFile(
        name=f"lpips/{trunk}.pth",
        content=f"linear heads of LPIPS v0.1, {trunk}",
        origin="github.com/richzhang/PerceptualSimilarity (lpips/weights/v0.1)",
        licence="BSD-2-Clause",
    )
    for trunk in ("alex", "vgg", "squeeze")
)
DISTS_WEIGHTS = WeightFile(
    name="dists/weights.pt",
    content="alpha and beta of DISTS",
    origin="github.com/dingkeyan93/DISTS (DISTS_pytorch/weights.pt)",
    licence="MIT",
)
NIQE_MODEL = WeightFile(
    name="niqe_pris_params.npz",
    content="mean and covariance of pristine images",
    origin="the authors' release, repacked in github.com/XPixelGroup/BasicSR, or fit_scene_model on your own",
    licence="as its publisher states",
)
BRISQUE_MODEL = WeightFile(
    name="brisque/allmodel",
    content="support vectors as LIBSVM text",
    origin="the authors' BRISQUE release (LIVE, University of Texas at Austin)",
    licence="as its publisher states",
)


def load_metric(name: str, folder: str | os.PathLike[str] | None = None) -> Metric:
    """The metric `name`, ready to be called, with what it needs read from `folder`.

    Metrics of perceptual networks are loaded by `evsim.models.perceptual.load_metric`, which takes all ids.
    Raises InputError for an unknown id or a missing file, FormatError for a file of another kind.
    """
    metric = METRICS[name]
    if metric.function is not None:
        return metric
    paths = weight_paths(metric, folder)
    if name == "niqe":
        return dataclasses.replace(metric, function=partial(niqe, pristine=load_scene_model(paths[0])))
    if name == "brisque":
        return dataclasses.replace(metric, function=partial(brisque, regression=load_brisque(paths[0])))
    raise InputError(f"metric {name} needs a network; load it with evsim.models.perceptual.load_metric")


def weight_paths(metric: Metric, folder: str | os.PathLike[str] | None) -> tuple[Path, ...]:
    """Where in `folder` the files of `metric` are; InputError naming what is missing and how to go on."""
    if folder is None:
        raise InputError(metric.refusal("no folder of weights was given"))
    paths = tuple(Path(folder) / file.name for file in metric.weights)
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise InputError(metric.refusal(f"{' and '.join(missing)} not found"))
    return paths


def _file(
    name: str,
    definition: str,
    function: Callable[..., float] | None = None,
    *,
    higher: bool = False,
    inputs: Inputs = "pair",
    weights: tuple[WeightFile, ...] = (),
) -> None:
    METRICS.register(name)(
        Metric(
            id=name,
            definition=definition,
            higher_is_better=higher,
            inputs=inputs,
            weights=weights,
            function=function,
        )
    )


def _errors() -> None:
    _file("mse", "mean squared error, clamped to [0, 1] (EVREAL, Diff-EvINR)", mean_squared_error)
    _file(
        "mse:ner",
        "mean squared error of full scale 1, prediction not clamped (NER-Net)",
        partial(mean_squared_error, clamp=False),
    )
    _file(
        "mse:ner-codes",
        "mean squared error of truncated 8-bit codes (NER-Net, 'rescale')",
        partial(mean_squared_error, quantise="floor"),
    )
    _file("mae", "mean absolute error, clamped to [0, 1] (Sim2Real 'l1')", mean_absolute_error)
    _file(
        "ie:vfi",
        "mean absolute difference of truncated 8-bit codes (VFIBenchmark)",
        partial(mean_absolute_error, quantise="floor"),
    )
    _file(
        "loe:ner",
        "lightness order error of grey images, short side 50 pixels (NER-Net)",
        lightness_order_error,
    )


def _psnr(name: str, definition: str, convention: PsnrConvention) -> None:
    _file(
        name, f"PSNR in dB: {definition}", partial(peak_signal_to_noise, convention=convention), higher=True
    )


def _noise_ratios() -> None:
    _psnr("psnr:rgb", "clamped floats, channels jointly, mse + 1e-14 (Sim2Real)", PsnrConvention(floor=1e-14))
    _psnr("psnr:pyiqa", "clamped floats, channels jointly, mse + 1e-8 (pyiqa)", PsnrConvention(floor=1e-8))
    _psnr("psnr:y", "float luma, mse + 1e-8 (pyiqa)", PsnrConvention(colour="luma", floor=1e-8))
    _psnr(
        "psnr:vfi",
        "truncated 8-bit codes, channels jointly, mse + 1e-8 (VFIBenchmark, PerVFI)",
        PsnrConvention(quantise="floor", floor=1e-8),
    )
    _psnr(
        "psnr:gem",
        "truncated 8-bit codes, channels jointly, infinite if identical (GEM)",
        PsnrConvention(quantise="floor"),
    )
    _psnr(
        "psnr:gem-grey",
        "truncated 8-bit luma, infinite if identical (GEM, grey table)",
        PsnrConvention(quantise="floor", colour="luma"),
    )


def _ssim(name: str, definition: str, convention: SsimConvention) -> None:
    _file(name, f"SSIM: {definition}", partial(structural_similarity, convention=convention), higher=True)


def _similarities() -> None:
    _ssim(
        "ssim:evreal", "grey floats, gaussian window (EVREAL, E2VID protocol)", SsimConvention(colour="grey")
    )
    _ssim(
        "ssim:evreal-v1",
        "as ssim:evreal with data range 2, the mistake of EVREAL's first tables",
        SsimConvention(colour="grey", data_range=2.0),
    )
    _ssim("ssim:rgb", "float channels, gaussian window, mean over channels", SsimConvention())
    _ssim(
        "ssim:sim2real",
        "rounded 8-bit channels, gaussian window, contrast term at least 0 (Sim2Real)",
        SsimConvention(quantise="round", clamp_contrast=True),
    )
    _ssim(
        "ssim:y",
        "rounded 8-bit luma, gaussian window, contrast term at least 0 (pyiqa default)",
        SsimConvention(colour="luma", quantise="round", clamp_contrast=True),
    )
    _ssim(
        "ssim:vfi",
        "truncated 8-bit channels, gaussian window (VFIBenchmark, PerVFI)",
        SsimConvention(quantise="floor"),
    )
    _ssim(
        "ssim:gem",
        "truncated 8-bit channels, uniform 11x11 window (GEM)",
        SsimConvention(window="uniform", quantise="floor"),
    )
    _ssim(
        "ssim:gem-grey",
        "truncated 8-bit luma, uniform 11x11 window (GEM, grey table)",
        SsimConvention(window="uniform", colour="luma", quantise="floor"),
    )
    uniform = SsimConvention(window="uniform", side=7, colour="grey", sample_covariance=True, clamp=False)
    _ssim("ssim:ner", "unclamped grey floats, uniform 7x7 window, sample covariance (NER-Net)", uniform)
    _ssim(
        "ssim:ner-range2",
        "as ssim:ner with data range 2, what NER-Net's utility printed with old scikit-image",
        dataclasses.replace(uniform, data_range=2.0),
    )
    _ssim(
        "ssim:ner-codes",
        "truncated 8-bit grey, uniform 7x7 window, sample covariance (NER-Net, 'rescale')",
        dataclasses.replace(uniform, clamp=True, quantise="floor"),
    )
    _file(
        "ms-ssim:vfi",
        "multi-scale SSIM of truncated 8-bit channels, five scales (VFIBenchmark)",
        partial(multi_scale_similarity, convention=SsimConvention(quantise="floor")),
        higher=True,
    )


def _perceptual() -> None:
    alex, vgg = (ALEX_TRUNK, ALEX_HEADS), (VGG_TRUNK, VGG_HEADS)
    _file("lpips:alex", "LPIPS v0.1, AlexNet, clamped (EVREAL, Sim2Real, VFIBenchmark)", weights=alex)
    _file("lpips:vgg", "LPIPS v0.1, VGG-16, clamped (Diff-EvINR)", weights=vgg)
    _file("lpips:squeeze", "LPIPS v0.1, SqueezeNet 1.1, clamped", weights=(SQUEEZE_TRUNK, SQUEEZE_HEADS))
    _file("lpips:ner", "LPIPS v0.1, VGG-16, prediction not clamped (NER-Net)", weights=vgg)
    _file("dists", "DISTS of the images as they are, clamped (Sim2Real)", weights=(VGG_TRUNK, DISTS_WEIGHTS))
    _file(
        "flolpips:alex",
        "LPIPS v0.1, AlexNet, weighted by the difference of the optical flows (PerVFI)",
        inputs="pair with flows",
        weights=alex,
    )


def _without_reference() -> None:
    _file(
        "niqe", "distance to pristine scene statistics, 96x96 blocks", inputs="image", weights=(NIQE_MODEL,)
    )
    _file(
        "brisque",
        "support vector regression of scene statistics at two scales",
        inputs="image",
        weights=(BRISQUE_MODEL,),
    )


_errors()
_noise_ratios()
_similarities()
_perceptual()
_without_reference()
