// From a drawing to what the model sees, 28×28: what export/digits/graph/preprocessing.py does with a
// picture inside the graph, step by step. Done here so that the page can show what it sends.

const SIDE = 28; // pixels, of the model's input
const BOX = 20; // pixels, the longer side of the digit in it
const EDGE = 0.1; // ink weaker than this does not count when the digit is cropped
const THINNEST = 2.3, WIDEST = 3.2; // pixels of 28, of strokes left as they are
const FINE = 5; // samples per pixel, where strokes are made thinner or thicker
const MOST = 2; // pixels on each side of a stroke

/** ImageData of a digit drawn black on white → Uint8Array of 784, white ink on black; null if blank. */
export function seen({ height, width, data }) {
  const ink = picture(height, width, (y, x, i) => 1 - data[4 * i] / 255);
  const box = boxOf(ink);
  return box && place(redrawn(cropped(ink, box)));
}

// A grey picture, or its ink: height, width and data, row by row, in 0..1.
function picture(height, width, value) {
  const data = new Float32Array(height * width);
  for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i++) data[i] = value(y, x, i);
  return { height, width, data };
}

// A half goes to the even neighbour, as in the graph.
function rounded(value) {
  const near = Math.round(value);
  return near - value === 0.5 && near % 2 ? near - 1 : near;
}

const clip = (value, least, most) => Math.min(Math.max(value, least), most);

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function greatest(values) {
  let most = -Infinity;
  for (const value of values) if (value > most) most = value;
  return most;
}

// Place

function boxOf({ height, width, data }) {
  const box = { top: height, left: width, bottom: 0, right: 0 };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!(data[y * width + x] > EDGE)) continue;
      // A lone speck is no stroke: its neighbourhood must hold ink, too.
      let around = 0, count = 0;
      for (let v = Math.max(y - 1, 0); v < Math.min(y + 2, height); v++) {
        for (let u = Math.max(x - 1, 0); u < Math.min(x + 2, width); u++, count++) around += data[v * width + u];
      }
      if (!(around / count > EDGE / 2)) continue;
      box.top = Math.min(box.top, y);
      box.left = Math.min(box.left, x);
      box.bottom = Math.max(box.bottom, y + 1);
      box.right = Math.max(box.right, x + 1);
    }
  }
  return box.bottom ? box : null;
}

function cropped(ink, { top, left, bottom, right }) {
  const at = (y, x) => ink.data[(y + top) * ink.width + x + left];
  return picture(bottom - top, right - left, at);
}

// The longer side becomes `BOX`, and the centre of mass the middle.
function place(ink) {
  const box = boxOf(ink);
  if (!box) return null;
  const whole = cropped(ink, box);
  const digit = resized(whole, BOX / Math.max(whole.height, whole.width));
  const strongest = greatest(digit.data); // scaling thins a fine pen's ink
  const mass = sum(digit.data);
  const centre = (place) => digit.data.reduce((total, value, i) => total + value * place(i), 0) / mass;
  const row = centre((i) => Math.floor(i / digit.width)), column = centre((i) => i % digit.width);
  const top = clip(rounded(SIDE / 2 - row), 0, SIDE - digit.height);
  const left = clip(rounded(SIDE / 2 - column), 0, SIDE - digit.width);
  const pixels = new Uint8Array(SIDE * SIDE);
  digit.data.forEach((value, i) => {
    const y = top + Math.floor(i / digit.width), x = left + (i % digit.width);
    pixels[y * SIDE + x] = rounded(clip(value / strongest, 0, 1) * 255);
  });
  return pixels;
}

// Strokes as thin or thick as MNIST's: scaled down, a marker's run into each other, a fine pen's fade.
function redrawn(digit) {
  const longer = Math.max(digit.height, digit.width);
  const width = strokeWidth(resized(digit, BOX / longer));
  const wanted = clip(width, THINNEST, WIDEST);
  // What comes out is scaled to the box again, and its strokes with it.
  const by = clip((((wanted - width) / 2) * BOX) / (BOX - wanted), -MOST, MOST);
  return longer > 2 * BOX && by ? grown(resized(digit, (BOX * FINE) / longer), FINE * by) : digit;
}

// A stroke's area over its length, which is half of its outline's.
function strokeWidth({ height, width, data }) {
  const at = (y, x) => (y < 0 || x < 0 || y >= height || x >= width ? 0 : data[y * width + x]);
  const slope = (y, x) => Math.hypot(at(y, x - 1) - at(y - 1, x - 1), at(y - 1, x) - at(y - 1, x - 1));
  return (2 * sum(data)) / sum(picture(height + 1, width + 1, slope).data);
}

// Ink with `by` pixels more on every side, or less: the most, or the least, around.
function grown({ height, width, data }, by) {
  const reach = Math.ceil(Math.abs(by));
  const wide = { height: height + 2 * reach, width: width + 2 * reach };
  const isMore = by > 0; // less ink is more paper
  const inside = (y, x) => y >= 0 && x >= 0 && y < height && x < width;
  const page = picture(wide.height, wide.width, (y, x) => {
    const ink = inside(y - reach, x - reach) ? data[(y - reach) * width + x - reach] : 0;
    return isMore ? ink : 1 - ink;
  });
  const most = new Float32Array(page.data.length);
  for (let v = -reach; v <= reach; v++) {
    for (let u = -reach; u <= reach; u++) {
      const beyond = clip(Math.hypot(v, u) - Math.abs(by), 0, 1);
      if (beyond === 1) continue;
      const [top, bottom] = [Math.max(0, -v), Math.min(wide.height, wide.height - v)];
      const [left, right] = [Math.max(0, -u), Math.min(wide.width, wide.width - u)];
      for (let y = top; y < bottom; y++) {
        for (let i = y * wide.width + left, end = y * wide.width + right; i < end; i++) {
          const value = page.data[i + v * wide.width + u] - beyond;
          if (value > most[i]) most[i] = value;
        }
      }
    }
  }
  return { ...wide, data: isMore ? most : most.map((paper) => 1 - paper) };
}

// Scaling, bilinear; a smaller picture is averaged over what each of its pixels covers.

function resized(image, scale) {
  const to = (length) => Math.max(1, rounded(length * scale));
  const [height, width] = [to(image.height), to(image.width)];
  const rows = spans(image.height, height), columns = spans(image.width, width);
  const wide = picture(image.height, width, (y, x) => weighted(image.data, y * image.width, 1, columns[x]));
  return picture(height, width, (y, x) => weighted(wide.data, x, width, rows[y]));
}

function weighted(data, start, step, { first, weights }) {
  let total = 0;
  for (let i = 0; i < weights.length; i++) total += weights[i] * data[start + (first + i) * step];
  return total;
}

// For each new pixel: the first of the old ones that it is made of, and their weights.
function spans(from, to) {
  const step = from / to, reach = Math.max(step, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * step;
    const first = Math.max(Math.ceil(centre - reach - 0.5), 0);
    const last = Math.min(Math.floor(centre + reach - 0.5), from - 1);
    const near = Array.from({ length: last - first + 1 }, (_, j) =>
      Math.max(1 - Math.abs(first + j + 0.5 - centre) / reach, 0));
    const total = sum(near);
    return { first, weights: near.map((weight) => weight / total) };
  });
}
