"""`python -m export` on two devices: TensorFlow divides the processor into logical ones."""

import functools
import sys

import tensorflow as tf

from export.__main__ import main
from export.digits.training import devices

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
devices.strategy = functools.partial(devices.strategy, "CPU")
sys.exit(main())
