// From a picture to what the model sees, 28×28: what export/preprocessing.py and export/ink.py do
// inside the graph, step by step. Done here so that the page can show what it sends.

const SIDE = 28; // pixels, of the model's input
const BOX = 20; // pixels, the longer side of the digit in it
const EDGE = 0.1; // ink weaker than this does not count when the digit is cropped
const THINNEST = 2.3, WIDEST = 3.2; // pixels of 28, of strokes left as they are
const FINE = 5; // samples per pixel, where strokes are made thinner or thicker
const MOST = 2; // pixels on each side of a stroke

const BORDER = 0.06; // share of the picture, on each side, taken to be bare paper
const BLANK = 0.08; // a picture whose strongest ink differs less than this from its paper is blank
const PAPER_SIDE = 96; // pixels; the light changes slowly
const PAPER_FITS = 6;
const DIM = 0.25; // light paper is taken to be at least this bright

/** ImageData of one digit → Uint8Array of 784, white ink on black; null if there is no ink. */
export function seen(imageData) {
  const ink = inkOf(greyOf(imageData));
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

function greyOf({ height, width, data }) {
  const grey = (i) => 0.2989 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
  return picture(height, width, (y, x, i) => grey(4 * i) / 255);
}

// Ink

function inkOf(grey) {
  const paper = paperOf(grey).data;
  const difference = grey.data.map((value, i) => value - paper[i]);
  const square = (sign) => sum(difference.map((value) => Math.max(sign * value, 0) ** 2));
  // Light falls on ink and paper alike: dark ink is known by its share of the paper's brightness.
  const signed = square(1) > square(-1)
    ? difference
    : difference.map((value, i) => -value / Math.max(paper[i], DIM));
  // What the paper itself shows (grain, JPEG noise) is no ink. 4.5 medians are 3 sigmas.
  const grain = borderOf(grey).map((i) => Math.abs(signed[i])).sort((a, b) => a - b);
  const noise = Math.min(4.5 * grain[grain.length >> 1], 0.3);
  const strongest = greatest(signed);
  const range = strongest > Math.max(BLANK, 2 * noise) ? Math.max(strongest - noise, BLANK) : Infinity;
  return picture(grey.height, grey.width, (y, x, i) => clip((signed[i] - noise) / range, 0, 1));
}

function borderOf({ height, width }) {
  const down = Math.ceil(BORDER * height), across = Math.ceil(BORDER * width);
  const indices = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inside = y >= down && y < height - down && x >= across && x < width - across;
      if (!inside) indices.push(y * width + x);
    }
  }
  return indices;
}

// Brightness of the bare paper: the quadratic surface that fits the border best, by reweighted
// least squares, so that ink which runs over the edge does not tilt it.
function paperOf(grey) {
  const coarse = resized(grey, Math.min(1, PAPER_SIDE / Math.max(grey.height, grey.width)));
  const at = TERMS.map((term) => surfaceOf(coarse, term));
  const sample = borderOf(coarse).map((i) => [...at.map(({ data }) => data[i]), coarse.data[i]]);
  let weights = sample.map(() => 1), factors;
  for (let fit = 0; fit < PAPER_FITS; fit++) {
    const total = sum(weights);
    const normal = TERMS.map((_, j) => [...TERMS, null].map((_, k) => {
      let product = 0;
      sample.forEach((row, i) => { product += weights[i] * row[j] * row[k]; });
      return product / total + (j === k ? 1e-4 : 0);
    }));
    factors = solved(normal);
    weights = sample.map((row) => {
      const distance = factors.reduce((rest, factor, j) => rest - factor * row[j], row.at(-1));
      return 1 / Math.max(Math.abs(distance), 0.003);
    });
  }
  const [a, b, c, d, e, f] = factors;
  return surfaceOf(grey, (x, y) => a + b * x + c * y + d * x * y + e * x * x + f * y * y);
}

const TERMS = [() => 1, (x) => x, (x, y) => y, (x, y) => x * y, (x) => x * x, (x, y) => y * y];

function surfaceOf({ height, width }, value) {
  return picture(height, width, (y, x) => value((2 * x + 1) / width - 1, (2 * y + 1) / height - 1));
}

// Rows of a positive definite system, the right side last → its solution.
function solved(rows) {
  rows.forEach((pivot, j) => {
    rows.forEach((row, k) => {
      const share = row[j] / pivot[j];
      if (k !== j) row.forEach((_, column) => { row[column] -= share * pivot[column]; });
    });
  });
  return rows.map((row, j) => row.at(-1) / row[j]);
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
