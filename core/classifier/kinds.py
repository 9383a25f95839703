"""The classifiers that a configuration may name."""

from __future__ import annotations

from luceloop.core.classifier.small_cnn import SmallCNNConfig
from luceloop.core.classifier.vgg11 import VGG11Config
from luceloop.core.kinds import Kinds

CLASSIFIERS = Kinds(SmallCNNConfig, VGG11Config)
