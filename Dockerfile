# rrqd as a base image: put your application on top.
#
#     FROM rrqd
#     COPY --chown=rrqd . /app
#     RUN pip install --no-cache-dir /app
#     CMD ["--config", "/app/rrq.toml"]
#
# It may be PID 1 without an init: the master reaps whatever a job leaves behind.
# Stop it with `docker stop -t 60`: longer than rrqd.stop_timeout_seconds, which is 25.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY rrqd ./rrqd
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --create-home --home-dir /home/rrqd rrqd \
 && install -d -o rrqd -g rrqd -m 0700 /var/lib/rrqd \
 && install -d -o rrqd -g rrqd /app
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels rrqd \
 && rm -rf /wheels

ENV PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/rrqd
VOLUME /var/lib/rrqd
WORKDIR /app
USER rrqd

# 9464: metrics, health, dashboard. Inside a container it must listen on all addresses to be reached:
# set rrqd.http = "0.0.0.0:9464" in your file.
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=6 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/livez', timeout=2)"]

ENTRYPOINT ["rrqd"]
CMD ["--config", "/app/rrq.toml"]
