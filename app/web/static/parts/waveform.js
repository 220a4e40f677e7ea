/** The shape of a track's sound: decoded from the local file, one at a time, and kept as a few hundred peaks. */
import { Turns } from "../client/turns.js";

/** Enough for a picture, and a tenth of the memory: the browser resamples while it decodes. */
const SAMPLE_RATE_HZ = 8000;
const N_PEAKS = 900;
/** Samples looked at before the page may do something else. */
const BLOCK = 400_000;

const turns = new Turns(1);

/**
 * @typedef {object} Waveform
 * @property {Float32Array} peaks the loudest of each part, 0 to 1
 * @property {number} durationS
 */

/**
 * @param {File} file
 * @returns {Promise<Waveform>} rejected for a format that the browser cannot decode
 */
export function waveform(file) {
  return turns.run(async () => {
    const context = new OfflineAudioContext(1, 1, SAMPLE_RATE_HZ);
    const audio = await context.decodeAudioData(await file.arrayBuffer());
    return { peaks: await peaksOf(audio.getChannelData(0)), durationS: audio.duration };
  });
}

/** @param {Float32Array} samples */
async function peaksOf(samples) {
  const peaks = new Float32Array(N_PEAKS);
  let looked = 0;
  for (let n = 0; n < N_PEAKS; n += 1) {
    const from = Math.floor((n * samples.length) / N_PEAKS);
    const to = Math.floor(((n + 1) * samples.length) / N_PEAKS);
    peaks[n] = loudest(samples, from, to);
    looked += to - from;
    if (looked > BLOCK) {
      looked = 0;
      await pause();
    }
  }
  return normalised(peaks);
}

/**
 * @param {Float32Array} samples
 * @param {number} from
 * @param {number} to
 */
function loudest(samples, from, to) {
  let peak = 0;
  for (let n = from; n < to; n += 1) peak = Math.max(peak, Math.abs(samples[n] ?? 0));
  return peak;
}

/** @param {Float32Array} peaks */
function normalised(peaks) {
  const highest = Math.max(...peaks, 0.001);
  return peaks.map((peak) => peak / highest);
}

/** @returns {Promise<void>} */
function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}

/**
 * Draw the peaks as bars, those before `played` (0 to 1) in the colour of what was heard.
 * @param {HTMLCanvasElement} canvas
 * @param {Float32Array} peaks
 * @param {number} played
 */
export function drawWaveform(canvas, peaks, played) {
  const context = fitted(canvas);
  if (!context) return;
  const { clientWidth: width, clientHeight: height } = canvas;
  const style = getComputedStyle(canvas);
  const [bar, gap] = [2, 1];
  const nBars = Math.floor(width / (bar + gap));
  for (let n = 0; n < nBars; n += 1) {
    const from = Math.floor((n * peaks.length) / nBars);
    const to = Math.max(Math.floor(((n + 1) * peaks.length) / nBars), from + 1);
    const tall = Math.max(loudest(peaks, from, to) * (height - 4), 1.5);
    context.fillStyle = style.getPropertyValue(n / nBars < played ? "--wave-played" : "--wave");
    context.fillRect(n * (bar + gap), (height - tall) / 2, bar, tall);
  }
}

/**
 * The canvas cleared, with as many pixels as the screen has for it.
 * @param {HTMLCanvasElement} canvas
 */
function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context?.setTransform(scale, 0, 0, scale, 0, 0);
  context?.clearRect(0, 0, width, height);
  return context;
}
