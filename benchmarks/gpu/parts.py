"""The parts, the most important first. Together their budgets are what a campaign may take."""

from benchmarks.gpu import catalogue, decode, engines, host, machine, service, suite, training
from benchmarks.gpu.part import Part

PARTS = (
    Part("machine", "Machine and preparation", 30, machine.tasks),
    Part("tests", "Tests that need a device", 80, suite.tasks),
    Part("engine", "Engine: precision, batch, kernels, attention", 115, engines.tasks),
    Part("host", "Host side", 30, host.tasks),
    Part("service", "The service, from MP3 files", 115, service.tasks),
    Part("decode", "Decoding, and the sandbox around it", 15, decode.tasks),
    Part("catalogue", "Many files without the service", 35, catalogue.tasks),
    Part("training", "Training the head", 20, training.tasks),
)
