"""The parts, the most important first. Together their budgets are what a campaign may take."""

from benchmarks.gpu import catalogue, decode, engines, host, machine, service, suite, training
from benchmarks.gpu.part import Part

PARTS = (
    Part("machine", "Machine and preparation", 30, machine.tasks),
    Part("tests", "Tests that need a device", 75, suite.tasks),
    Part("engine", "Engine: precision, batch, kernels, attention", 62, engines.tasks),
    Part("decode", "Decoding, and the sandbox around it", 15, decode.tasks),
    Part("service", "The service, from MP3 files", 100, service.tasks),
    Part("catalogue", "Many files without the service", 40, catalogue.tasks),
    Part("host", "Host side", 15, host.tasks),
    Part("training", "Training the head", 15, training.tasks),
)
